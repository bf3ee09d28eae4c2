"""The Responses API over a WebSocket: every frame is one JSON text.

A ``response.create`` is the body of ``POST /v1/responses`` with a type, and with a ``stream_id`` where its client wants
several lanes. Back come the events of its stream, or ``error`` with the status and the body of a refusal; both repeat
the ``stream_id``. Two more types, which say how far a client is, ask for nothing.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec
import orjson

from portico.errors import BadRequestError
from portico.protocols.bounds import check_bounds
from portico.protocols.responses.schema import ResponsesRequest

__all__ = ["Create", "error_frame", "event_frames", "read_frame"]

CREATE = "response.create"
IN_PASSING = ("response.append", "response.processed")

_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")


class Create(NamedTuple):
    """A request for a response. ``body`` is that of the POST."""

    stream_id: str | None
    previous_id: Any  # looked at by whoever reads the body
    body: bytes


class _Frame(msgspec.Struct):
    type: Any = None
    stream_id: Any = None
    previous_response_id: Any = None
    background: Any = None


def read_frame(text: str) -> Create | None:
    """What the frame asks for; None where that is nothing. Raises ``BadRequestError``."""
    given = text.encode()
    check_bounds(given, ResponsesRequest)
    try:
        frame = msgspec.json.decode(given, type=_Frame)
    except (msgspec.MsgspecError, RecursionError):
        raise BadRequestError("The frame is not a JSON object.", code="invalid_json") from None
    if frame.type in IN_PASSING:
        return None
    if frame.type != CREATE:
        raise BadRequestError(f"A frame's type must be '{CREATE}'.", param="type")
    id = frame.stream_id
    if id is not None and not (isinstance(id, str) and _STREAM_ID.fullmatch(id)):
        raise BadRequestError(
            "stream_id must be 1 to 256 characters, of letters, digits, '_', '.' and '-'.", param="stream_id"
        )
    if frame.background is True:
        raise BadRequestError("Responses over a WebSocket are not made in the background.", param="background")
    body = given.rstrip()[:-1] + b',"stream":true}'  # of two equal keys the last is taken
    return Create(id, frame.previous_response_id, body)


def event_frames(events: bytes, stream_id: str | None) -> list[bytes]:
    """Whole server-sent events as frames."""
    texts = [event.partition(b"data: ")[2] for event in events.split(b"\n\n") if event]
    if stream_id is None:
        return [text for text in texts if text]
    end = b',"stream_id":%b}' % orjson.dumps(stream_id)
    return [text[:-1] + end for text in texts if text]


def error_frame(status: int, body: bytes, stream_id: str | None, retry_after: int | None = None) -> bytes:
    """The body of a refusal as a frame; ``retry_after`` in seconds stands where an HTTP response has it. Open Responses
    wants a code in every frame: the type, where there is no finer one."""
    frame: dict[str, Any] = {"type": "error", "status": status, **orjson.loads(body)}
    frame["error"]["code"] = frame["error"]["code"] or frame["error"]["type"]
    if retry_after is not None:
        frame["headers"] = {"retry-after": str(retry_after)}
    if stream_id is not None:
        frame["stream_id"] = stream_id
    return orjson.dumps(frame)
