"""Errors in Anthropic's shape: ``{"type": "error", "error": {"type", "message"}, "request_id"}``.

Type and status follow Anthropic's documentation: 400 ``invalid_request_error`` (also for other 4xx), 401, 403, 404, 413
``request_too_large``, 429, 500 ``api_error``, 504 ``timeout_error``, 529 ``overloaded_error``. A message that names a
field in the neutral words of the boxes below is put into the words of this API.
"""

from __future__ import annotations

import orjson

from portico.errors import OverloadedError, PorticoError, RequestTimeoutError
from portico.protocols import sse

__all__ = ["body", "error_type", "status", "stream_event"]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_OWN_WORDS = (("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),)


def status(error: PorticoError) -> int:
    """The HTTP status of ``error`` here."""
    if isinstance(error, OverloadedError):
        return 529
    if isinstance(error, RequestTimeoutError):
        return 504
    return 500 if error.status > 500 else error.status


def error_type(error: PorticoError) -> str:
    """Anthropic's word for what went wrong."""
    code = status(error)
    return _TYPES.get(code, "invalid_request_error" if code < 500 else "api_error")


def body(error: PorticoError, request_id: str) -> bytes:
    """The response body for ``error``."""
    message = error.message
    for neutral, own in _OWN_WORDS:
        message = message.replace(neutral, own)
    detail = {"type": error_type(error), "message": message}
    return orjson.dumps({"type": "error", "error": detail, "request_id": request_id})


def stream_event(error: PorticoError, request_id: str) -> bytes:
    """The in-band form, for a stream that has already begun."""
    return sse.event(body(error, request_id), "error")
