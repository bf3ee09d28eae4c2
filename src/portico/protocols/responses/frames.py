"""The Responses API over a WebSocket: every frame is one JSON text.

A ``response.create`` is the body of ``POST /v1/responses`` with a type, and with a ``stream_id`` where its client wants
several lanes. Back come the events of its stream, or ``error`` with the status and the body of a refusal; both repeat
the ``stream_id``, and the first of them has the ``headers`` that an HTTP response would have had. Two more types, which
say how far a client is, ask for nothing. Input for a response that is being made (``response.steer``) is given back in
the protocol's own words for a server that cannot do so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import orjson

from portico.errors import BadRequestError
from portico.protocols.bounds import check_bounds
from portico.protocols.responses.schema import ResponsesRequest

__all__ = ["Create", "Frames", "error_frame", "read_frame"]

CREATE = "response.create"
STEER = "response.steer"
IN_PASSING = ("response.append", "response.processed")
TOLD = ("retry-after", "x-portico-warning")  # headers

NO_STEERING = {
    "code": "steering_not_supported",
    "message": "A response that is being made takes no more input here: give it to the next one.",
    "type": "invalid_request_error",
}

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
    input: msgspec.Raw = msgspec.Raw(b"null")


def read_frame(text: str) -> Create | bytes | None:
    """What the frame asks for, or the frame that answers it at once; None where nothing does. Raises
    ``BadRequestError``."""
    given = text.encode()
    check_bounds(given, ResponsesRequest)
    try:
        frame = msgspec.json.decode(given, type=_Frame)
    except (msgspec.MsgspecError, RecursionError):
        raise BadRequestError("The frame is not a JSON object.", code="invalid_json") from None
    if frame.type in IN_PASSING:
        return None
    if frame.type == STEER:
        return _steering_refused(frame)
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


def _steering_refused(frame: _Frame) -> bytes:
    if not isinstance(frame.previous_response_id, str):
        raise BadRequestError("It names the response that is to be steered.", param="previous_response_id")
    refused = {"input": orjson.Fragment(bytes(frame.input)), "previous_response_id": frame.previous_response_id}
    return orjson.dumps(
        {"type": f"{STEER}.failed", "sequence_number": 0, "error": NO_STEERING, "steer": refused},
    )


class Frames:
    """Makes the frames of one answer from its server-sent events."""

    def __init__(self, stream_id: str | None) -> None:
        self._end = b"}" if stream_id is None else b',"stream_id":%b}' % orjson.dumps(stream_id)
        self._first = True

    def of(self, events: bytes, headers: Mapping[str, str]) -> list[bytes]:
        """Those of whole events. ``headers`` are the answer's."""
        texts = [event.partition(b"data: ")[2] for event in events.split(b"\n\n") if event]
        frames = [text[:-1] + self._end for text in texts if text]
        if self._first and frames:
            self._first = False
            if told := _told(headers):
                frames[0] = b'%b,"headers":%b}' % (frames[0][:-1], orjson.dumps(told))
        return frames


def error_frame(status: int, body: bytes, stream_id: str | None, headers: Mapping[str, str]) -> bytes:
    """The body of a refusal as a frame; ``headers`` are those of its HTTP response. Open Responses wants a code in
    every frame: the type, where there is no finer one."""
    frame: dict[str, Any] = {"type": "error", "status": status, **orjson.loads(body)}
    frame["error"]["code"] = frame["error"]["code"] or frame["error"]["type"]
    if told := _told(headers):
        frame["headers"] = told
    if stream_id is not None:
        frame["stream_id"] = stream_id
    return orjson.dumps(frame)


def _told(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in TOLD if name in headers}
