"""Token counts in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from portico.generation import Usage

__all__ = ["usage_body"]


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
