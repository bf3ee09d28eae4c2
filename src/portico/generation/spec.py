"""Everything about a generation that is decided before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portico.events import Constraint, Media, SamplingParams

__all__ = ["GenerationSpec"]


@dataclass(frozen=True, kw_only=True)
class GenerationSpec:
    """Everything about a generation that is decided before it starts."""

    request_id: str
    prompt_ids: Sequence[int]
    sampling: SamplingParams
    n: int = 1
    prompt_tail: str = ""
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    tools: Sequence[dict[str, Any]] = ()
    tool_choice: str | dict[str, Any] = "auto"
    parallel: bool = True
    stop: Sequence[str] = ()
    include_stop: bool = False
    skip_special_tokens: bool = True
    content_logprobs: bool = False  # logprobs are those of the content's tokens alone
    constraint: Constraint | None = None
    left_out: Sequence[str] = ()  # what of the request's schemas the constraint does not hold, in words
    priority: int = 0
    cache_salt: str | None = None
    cache_key: str | None = None
    lora: str | None = None
    data_parallel_rank: int | None = None
    trace_headers: dict[str, str] | None = None
    media: Media | None = None  # of the prompt
    generated: Sequence[int] = ()  # of the answer, what the client has already; of one choice only
