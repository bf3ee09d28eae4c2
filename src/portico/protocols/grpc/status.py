"""Errors as gRPC status codes, by what the client should make of them.

INVALID_ARGUMENT must be corrected, RESOURCE_EXHAUSTED and UNAVAILABLE may be tried again, INTERNAL is our fault.
"""

from __future__ import annotations

from portico.errors import (
    AuthenticationError,
    BadRequestError,
    EngineDeadError,
    MethodNotAllowedError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    PermissionDeniedError,
    PorticoError,
    RateLimitError,
    RequestTimeoutError,
    RequestTooLargeError,
)

__all__ = ["error_metadata", "status_name"]

_NAMES: list[tuple[type[PorticoError], str]] = [  # the first that fits
    (NotSupportedError, "INVALID_ARGUMENT"),
    (BadRequestError, "INVALID_ARGUMENT"),
    (AuthenticationError, "UNAUTHENTICATED"),
    (PermissionDeniedError, "PERMISSION_DENIED"),
    (NotFoundError, "NOT_FOUND"),
    (MethodNotAllowedError, "UNIMPLEMENTED"),
    (RequestTimeoutError, "DEADLINE_EXCEEDED"),
    (RequestTooLargeError, "RESOURCE_EXHAUSTED"),
    (RateLimitError, "RESOURCE_EXHAUSTED"),
    (OverloadedError, "UNAVAILABLE"),
    (EngineDeadError, "UNAVAILABLE"),
]


def status_name(error: PorticoError) -> str:
    """The name of the status code."""
    return next((name for kind, name in _NAMES if isinstance(error, kind)), "INTERNAL")


def error_metadata(error: PorticoError) -> tuple[tuple[str, str], ...]:
    """Trailing metadata: what the code and the message do not say, in words for machines."""
    pairs = [("portico-code", error.code), ("portico-param", error.param)]
    if error.retry_after is not None:
        pairs.append(("retry-after", str(error.retry_after)))
    return tuple((name, value) for name, value in pairs if value is not None and value.isascii())
