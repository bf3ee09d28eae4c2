"""The response object: every key always, null where there is nothing. This is the one API where absent is not null."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from portico.errors import BadRequestError, PorticoError, RateLimitError
from portico.generation import Model, Usage
from portico.protocols.responses.schema import ResponsesRequest
from portico.protocols.responses.tools import echoed_tools

__all__ = ["TERMINAL", "ended", "new_response", "usage_body"]

TERMINAL = ("completed", "incomplete", "failed", "cancelled")

Response = dict[str, Any]


def new_response(request: ResponsesRequest, model: Model, *, id: str, created: int, kept: bool) -> Response:
    """The response to ``request`` before anything has come. ``created`` is in Unix seconds; ``kept``: it is stored."""
    reasoning = request.reasoning
    text = request.text
    conversation = request.conversation_id
    body: Response = {
        "id": id,
        "object": "response",
        "created_at": created,
        "completed_at": None,
        "status": "queued" if request.background else "in_progress",
        "background": bool(request.background),
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "model": model.name,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "presence_penalty": request.presence_penalty or 0.0,
        "frequency_penalty": request.frequency_penalty or 0.0,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
        },
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": kept,
        "temperature": model.sampling.get("temperature", 1.0) if request.temperature is None else request.temperature,
        "text": {
            "format": (text.format if text else None) or {"type": "text"},
            "verbosity": (text.verbosity if text else None) or "medium",
        },
        "tool_choice": request.tool_choice or "auto",
        "tools": echoed_tools(request.tools),
        "top_logprobs": request.top_logprobs or 0,
        "top_p": model.sampling.get("top_p", 1.0) if request.top_p is None else request.top_p,
        "truncation": request.truncation or "disabled",
        "usage": None,
    }
    if request.user is not None:  # the one key that may not be null
        body["user"] = request.user
    if conversation is not None:
        body["conversation"] = {"id": conversation}
    return body


def ended(
    response: Mapping[str, Any],
    status: str,
    output: list[dict[str, Any]],
    usage: Mapping[str, Any] | None,
    *,
    now: int | None = None,
    reason: str | None = None,
    error: PorticoError | None = None,
) -> Response:
    """The same when it is over. ``reason`` is why it is incomplete."""
    return {
        **response,
        "status": status,
        "completed_at": now if status == "completed" else None,
        "output": output,
        "usage": usage,
        "incomplete_details": {"reason": reason} if reason else None,
        "error": {"code": _error_code(error), "message": error.message} if error else None,
    }


def _error_code(error: PorticoError) -> str:
    """One of the codes that the description knows."""
    if isinstance(error, RateLimitError):
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(error, BadRequestError) else "server_error"


def usage_body(usages: Iterable[Usage]) -> dict[str, Any]:
    """What the generations of one response have cost together."""
    total = list(usages)
    prompt = sum(one.prompt_tokens for one in total)
    answer = sum(one.completion_tokens for one in total)
    cached = sum(one.cached_tokens or 0 for one in total)
    thoughts = sum(one.reasoning_tokens for one in total)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": answer,
        "output_tokens_details": {"reasoning_tokens": thoughts},
        "total_tokens": prompt + answer,
    }
