"""Why a line failed, in the words of the endpoint that refused it, whichever API's error that is."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

__all__ = ["cause_of", "told_by"]

LONGEST_CAUSE: Final = 64  # characters


class _Error(Struct):
    code: str | None = None
    type: str | None = None
    message: str | None = None


class _Body(Struct):
    error: _Error


class _Response(Struct):
    body: Raw


class _Result(Struct):
    error: Raw


class _Line(Struct):
    """Of an error file of OpenAI's, or of the results of a message batch."""

    custom_id: str
    response: _Response | None = None
    result: _Result | None = None


_BODIES = msgspec.json.Decoder(_Body)
_LINES = msgspec.json.Decoder(_Line)


def cause_of(status: int, body: bytes) -> str:
    """The code of the error that was answered, or its type, or else the status."""
    error = _error(body)
    return (error.code or error.type or f"status_{status}")[:LONGEST_CAUSE]


def told_by(line: bytes) -> tuple[str, str]:
    """The ``custom_id`` and the error's message of a line that tells of a failure."""
    read = _LINES.decode(line)
    body = read.response.body if read.response is not None else read.result.error if read.result is not None else b""
    return read.custom_id, _error(body).message or ""


def _error(body: bytes | Raw) -> _Error:
    try:
        return _BODIES.decode(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError):  # an endpoint that tells errors otherwise
        return _Error()
