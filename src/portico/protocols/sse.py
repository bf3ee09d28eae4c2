"""Server-sent events (WHATWG HTML, section 9.2): the framing that both streaming protocols share."""

from __future__ import annotations

__all__ = ["DONE", "KEEP_ALIVE", "MEDIA_TYPE", "event"]

MEDIA_TYPE = b"text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"  # OpenAI's end of stream; Anthropic's streams have none
KEEP_ALIVE = b": keep-alive\n\n"  # a comment: every client skips it


def event(data: bytes, name: str | None = None) -> bytes:
    """One event. ``data`` is one line (JSON never holds a raw newline); ``name`` becomes the ``event:`` field."""
    if name is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + name.encode("ascii") + b"\ndata: " + data + b"\n\n"
