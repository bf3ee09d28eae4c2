"""Anthropic's MessageBatch: the request that makes one, the object that is shown, the lines of its results."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import Raw, Struct
from pydantic import Field

from portico.errors import BadRequestError
from portico.protocols.batches.lines import BODIES, NewRequest, Request, beginning_of
from portico.protocols.batches.record import ENDED, Outcome, Record, counts_of
from portico.protocols.times import rfc3339
from portico.protocols.validation import RequestModel

__all__ = [
    "MOST_REQUESTS",
    "CreateMessageBatchRequest",
    "answered",
    "batch_list",
    "read_line",
    "read_requests",
    "shown",
    "unanswered",
]

MOST_REQUESTS: Final = 100_000
PATH: Final = "/v1/messages"
CUSTOM_ID: Final = "[a-zA-Z0-9_-]{1,64}"


class MessageBatchRequest(RequestModel):
    """One request of a message batch."""

    custom_id: Annotated[str, Field(pattern=f"^{CUSTOM_ID}$")]
    params: dict[str, Any]


class CreateMessageBatchRequest(RequestModel):
    """POST /v1/messages/batches, as it is described. It may be long, and is read by ``read_requests``."""

    requests: Annotated[list[MessageBatchRequest], Field(min_length=1, max_length=MOST_REQUESTS)]


class _Create(Struct):
    requests: list[Raw]


class _Request(Struct):
    custom_id: str
    params: Raw


_CREATE = msgspec.json.Decoder(_Create)
_REQUEST = msgspec.json.Decoder(_Request)


def read_requests(body: bytes) -> list[NewRequest]:
    """The requests of POST /v1/messages/batches. Raises ``BadRequestError`` for the first that is none."""
    try:
        given = _CREATE.decode(body).requests
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(error, "") from None
    if not given:
        raise BadRequestError("'requests' must hold at least one request.", param="requests")
    if len(given) > MOST_REQUESTS:
        raise BadRequestError(f"'requests' may hold at most {MOST_REQUESTS:,} requests.", param="requests")
    seen: set[str] = set()
    found = []
    for index, one in enumerate(given):
        place = f"requests[{index}]"
        inside = place
        try:
            request = _REQUEST.decode(one)
            inside = f"{place}.params"
            params = BODIES.decode(request.params)
            if params.stream not in (None, False):
                raise BadRequestError(
                    f"'{place}.params.stream': a batch does not stream; leave it out.", param=f"{place}.params.stream"
                )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _refused(error, inside) from None
        if re.fullmatch(CUSTOM_ID, request.custom_id) is None:
            raise BadRequestError(
                f"'{place}.custom_id' must have 1 to 64 characters of a-z, A-Z, 0-9, _ and -.",
                param=f"{place}.custom_id",
            )
        if request.custom_id in seen:
            raise BadRequestError(
                f"'{place}.custom_id' is that of a request before; each must be unique.", param=f"{place}.custom_id"
            )
        seen.add(request.custom_id)
        found.append(NewRequest(bytes(one), None, beginning_of(params)))
    return found


def _refused(error: Exception, place: str) -> BadRequestError:
    """What is wrong with the body, or with the request at ``place`` in it."""
    if not isinstance(error, msgspec.ValidationError):
        return BadRequestError("The request body is not valid JSON.", code="invalid_json")
    found = re.search(r"missing required field `(\w+)`|`\$\.?(\w+)", str(error))
    field = (found[1] or found[2]) if found is not None and not place.endswith(".params") else ""
    path = ".".join(filter(None, (place, field))) or "requests"
    if found is not None and found[1]:
        return BadRequestError(f"Missing required field '{path}'.", param=path)
    wanted = {"custom_id": "a string", "requests": "a list"}.get(field, "an object")
    return BadRequestError(f"Invalid '{path}': it must be {wanted}.", param=path)


def read_line(line: bytes) -> Request:
    """The request of one line."""
    read = _REQUEST.decode(line)
    return Request(read.custom_id, PATH, bytes(read.params))


def shown(id: str, created_at: int, status: str, record: Record, results_url: str) -> dict[str, Any]:
    """The MessageBatch; ``results_url`` is where its results are once it has ended."""
    ended = status in ENDED
    counts = counts_of(record, {}) if ended else dict.fromkeys(("succeeded", "errored", "cancelled", "expired"), 0)
    return {
        "id": id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "canceling" if status == "cancelling" else "in_progress",
        "request_counts": {
            "processing": 0 if ended else record.total,
            "succeeded": counts["succeeded"],
            "errored": counts["errored"],
            "canceled": counts["cancelled"],
            "expired": counts["expired"],
        },
        "created_at": _time(created_at),
        "expires_at": _time(record.expires_at),
        "ended_at": _time(record.ended_at),
        "cancel_initiated_at": _time(record.cancelling_at),
        "archived_at": None,
        "results_url": results_url if ended else None,
    }


def batch_list(batches: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """One page."""
    return {
        "data": batches,
        "has_more": has_more,
        "first_id": batches[0]["id"] if batches else None,
        "last_id": batches[-1]["id"] if batches else None,
    }


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


def answered(custom_id: str, request_id: str, status: int, body: bytes) -> tuple[Outcome, bytes]:
    """How a request came out that was answered, and its line among the results."""
    id = orjson.dumps(custom_id)
    if status < 300:
        return "succeeded", b'{"custom_id":%b,"result":{"type":"succeeded","message":%b}}' % (id, body)
    return "errored", b'{"custom_id":%b,"result":{"type":"errored","error":%b}}' % (id, body)


def unanswered(custom_id: str, outcome: str) -> bytes:
    """The line among the results of a request that was never run."""
    type = "canceled" if outcome == "cancelled" else outcome
    return orjson.dumps({"custom_id": custom_id, "result": {"type": type}})
