"""OpenAI's Batch: the request that makes one, the object that is shown, the lines of its output files."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Struct
from pydantic import Field

from portico.protocols.batches.lines import ENDPOINTS
from portico.protocols.batches.record import Outcome, Record, Usage, counts_of
from portico.protocols.files import ExpiresAfter
from portico.protocols.responses.schema import Metadata
from portico.protocols.validation import RequestModel

__all__ = ["CreateBatchRequest", "answered", "batch_list", "shown", "unanswered", "usage_of"]

NEVER_RUN = {
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was run."),
    "expired": ("batch_expired", "The batch expired before this request was run."),
}
TIMES = (
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


class CreateBatchRequest(RequestModel):
    """POST /v1/batches."""

    input_file_id: Annotated[str, Field(min_length=1)]
    endpoint: Literal[ENDPOINTS]  # type: ignore[valid-type]  # its words, which a type checker cannot see
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


def shown(id: str, created_at: int, status: str, record: Record, running: Mapping[str | None, int]) -> dict[str, Any]:
    """The Batch; ``running`` says how its lines have come out so far. What is not there yet is left out."""
    counts = counts_of(record, running)
    failed = sum(counts.values()) - counts["succeeded"]
    shown: dict[str, Any] = {
        "id": id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": record.model,
        "errors": {"object": "list", "data": [msgspec.to_builtins(one) for one in record.problems]}
        if record.problems
        else None,
        "input_file_id": record.input_file_id,
        "completion_window": "24h",
        "status": status,
        "output_file_id": record.output_file_id,
        "error_file_id": record.error_file_id,
        "created_at": created_at,
        **{time: getattr(record, time) for time in TIMES},
        "request_counts": {"total": record.total, "completed": counts["succeeded"], "failed": failed},
        "usage": None if record.usage is None else _usage(record.usage),
    }
    return {**{name: value for name, value in shown.items() if value is not None}, "metadata": record.metadata}


def batch_list(batches: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """One page."""
    ends = {"first_id": batches[0]["id"], "last_id": batches[-1]["id"]} if batches else {}
    return {"object": "list", "data": batches, **ends, "has_more": has_more}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def answered(custom_id: str, request_id: str, status: int, body: bytes) -> tuple[Outcome, bytes]:
    """How a line came out whose endpoint answered, and its line in the output or the error file."""
    head = orjson.dumps({"id": request_id, "custom_id": custom_id})
    middle = b',"response":{"status_code":%d,"request_id":"%b","body":' % (status, request_id.encode())
    outcome: Outcome = "succeeded" if status < 300 else "errored"
    return outcome, b'%b%b%b},"error":null}' % (head[:-1], middle, body)


def unanswered(custom_id: str, outcome: str) -> bytes:
    """The line in the error file of one that was never run."""
    code, message = NEVER_RUN[outcome]
    error = {"code": code, "message": message}
    return orjson.dumps(
        {"id": f"batch_req_{secrets.token_hex(16)}", "custom_id": custom_id, "response": None, "error": error}
    )


class _Details(Struct):
    cached_tokens: int | None = 0
    reasoning_tokens: int | None = 0


class _Usage(Struct):
    """The usage of any endpoint."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = 0
    cache_creation_input_tokens: int | None = 0


class _Body(Struct):
    usage: _Usage | None = None


class _Response(Struct):
    body: _Body


class _Answered(Struct):
    response: _Response


_ANSWERED = msgspec.json.Decoder(_Answered)


def usage_of(line: bytes) -> Usage:
    """The tokens that a line of the output file tells of."""
    try:
        usage = _ANSWERED.decode(line).response.body.usage
    except msgspec.ValidationError:  # an endpoint that counts otherwise
        usage = None
    if usage is None:
        return Usage()
    none = _Details()
    read = usage.cache_read_input_tokens or 0  # Anthropic's, which it does not count as input
    given = usage.prompt_tokens_details or usage.input_tokens_details or none
    made = usage.completion_tokens_details or usage.output_tokens_details or none
    return Usage(
        input=usage.prompt_tokens + usage.input_tokens + read + (usage.cache_creation_input_tokens or 0),
        cached=(given.cached_tokens or 0) + read,
        output=usage.completion_tokens + usage.output_tokens,
        reasoning=made.reasoning_tokens or 0,
    )
