"""Token counts in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portico.generation import Usage

__all__ = ["input_usage", "usage_body"]


def usage_body(usage: Usage) -> dict[str, Any]:
    """``CompletionUsage``. Details an engine does not report are left out."""
    body: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    if usage.cached_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return body


def input_usage(prompt_tokens: Iterable[int]) -> dict[str, int]:
    """The same where nothing is generated, from the tokens of each input."""
    total = sum(prompt_tokens)
    return {"prompt_tokens": total, "total_tokens": total}
