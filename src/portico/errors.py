"""One error tree. Each protocol gives these its own shape; nothing else reaches a client.

Messages are written for the client: they name the field and the fix, never echo the input at length, never carry a
stack trace or a path.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "ContextLengthError",
    "EngineDeadError",
    "EngineError",
    "EngineLostError",
    "HeadTooLargeError",
    "MethodNotAllowedError",
    "ModelNotFoundError",
    "NotFoundError",
    "NotSupportedError",
    "OverloadedError",
    "PermissionDeniedError",
    "PorticoError",
    "RateLimitError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "StoreError",
    "UnsupportedMediaTypeError",
]

MAX_MESSAGE = 1500  # bytes of UTF-8; an error body stays under 2 kB


class PorticoError(Exception):
    """Base of all errors a client may see.

    ``status`` is the HTTP status, ``type`` OpenAI's error type, ``code`` a stable machine-readable word, ``param`` the
    request field at fault, ``retry_after`` seconds after which trying again makes sense.
    """

    status = 500
    type = "server_error"
    code: str | None = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: int | None = None
    ) -> None:
        encoded = message.encode("utf-8", "replace")
        if len(encoded) > MAX_MESSAGE:
            message = encoded[: MAX_MESSAGE - 3].decode("utf-8", "ignore") + "…"
        elif not message.isascii():
            message = encoded.decode("utf-8")  # without lone surrogates, which no encoder takes
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code


class BadRequestError(PorticoError):
    """The request cannot be served as it is written."""

    status, type = 400, "invalid_request_error"
    code: str | None = None


class ContextLengthError(BadRequestError):
    """The prompt does not fit the model's context."""

    code = "context_length_exceeded"


class NotSupportedError(BadRequestError):
    """A legal request for something this server or engine cannot do."""

    code = "unsupported"


class AuthenticationError(PorticoError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class PermissionDeniedError(PorticoError):
    status, type, code = 403, "permission_error", "permission_denied"


class NotFoundError(PorticoError):
    status, type, code = 404, "not_found_error", "not_found"


class ModelNotFoundError(NotFoundError):
    code = "model_not_found"


class MethodNotAllowedError(PorticoError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class RequestTimeoutError(PorticoError):
    status, type, code = 408, "timeout_error", "request_timeout"


class CancelledError(PorticoError):
    """Somebody who may has stopped the answer by another request."""

    status, type, code = 409, "invalid_request_error", "cancelled"


class GoneError(PorticoError):
    """What is asked for was here, and is no longer kept."""

    status, type, code = 410, "not_found_error", "gone"


class RequestTooLargeError(PorticoError):
    status, type, code = 413, "request_too_large", "request_too_large"


class UnsupportedMediaTypeError(PorticoError):
    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class HeadTooLargeError(PorticoError):
    """The request line and headers together."""

    status, type, code = 431, "invalid_request_error", "request_header_fields_too_large"


class RateLimitError(PorticoError):
    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class OverloadedError(PorticoError):
    """The queue is full or the server is draining."""

    status, type, code = 503, "overloaded_error", "overloaded"


class EngineError(PorticoError):
    """The engine failed on this request."""

    code = "engine_error"


class EngineDeadError(EngineError):
    """The engine process is gone; it may be restarting."""

    status, type, code = 503, "server_error", "engine_unavailable"


class EngineLostError(EngineDeadError):
    """The engine died while it worked on this: another may be asked."""


class StoreError(PorticoError):
    """What is to be kept cannot be kept, or what was kept cannot be read: now, or in this place at all."""

    status, type, code = 503, "server_error", "store_unavailable"
