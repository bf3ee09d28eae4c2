"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``, the same on every route."""

from __future__ import annotations

import orjson

from portico.errors import PorticoError
from portico.protocols import sse

__all__ = ["body", "stream_event"]


def body(error: PorticoError) -> bytes:
    """The response body for ``error``; all four keys are always there, as OpenAI's description requires."""
    return orjson.dumps(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def stream_event(error: PorticoError) -> bytes:
    """The in-band form, for a stream that has already begun."""
    return sse.event(body(error))
