"""How a gRPC call ends: by name, whatever said so. Pure.

The trailers say it (``grpc-status``); where there are none, the HTTP status or the code of a reset stands for it, as
gRPC's own description of its protocol over HTTP/2 has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from portico.engines.grpc.http2.frames import Code

__all__ = ["RpcError", "of_http", "of_reset", "of_trailers"]

_NAMES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_HTTP: Final = {
    "400": "INTERNAL",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "UNIMPLEMENTED",
    "429": "UNAVAILABLE",
    "502": "UNAVAILABLE",
    "503": "UNAVAILABLE",
    "504": "UNAVAILABLE",
}
_RESETS: Final[dict[int, str]] = {
    Code.REFUSED_STREAM: "UNAVAILABLE",
    Code.CANCEL: "CANCELLED",
    Code.ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED",
    Code.INADEQUATE_SECURITY: "PERMISSION_DENIED",
}


class RpcError(Exception):
    """A call's end other than OK: the code's name, words about it, and the trailing fields."""

    def __init__(self, code: str, details: str = "", trailers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code}: {details}")
        self.code, self.details, self.trailers = code, details, trailers or {}


def of_trailers(fields: Mapping[str, str]) -> RpcError | None:
    """What ended the call by these fields; None if it is well."""
    number = fields.get("grpc-status", "")
    if number == "0":
        return None
    known = number.isdecimal() and len(number) < 3 and int(number) < len(_NAMES)
    details = unquote(fields.get("grpc-message", ""), errors="replace")  # any bytes, as percent signs and digits
    return RpcError(_NAMES[int(number)] if known else "UNKNOWN", details, fields)


def of_http(status: str) -> RpcError:
    """What an answer of this HTTP status means that is none of gRPC."""
    return RpcError(_HTTP.get(status, "UNKNOWN"), f"The answer is none of gRPC (HTTP status {status[:40]}).")


def of_reset(code: int) -> RpcError:
    """What the reset of a stream means."""
    name = Code(code).name if code in Code.__members__.values() else str(code)
    return RpcError(_RESETS.get(code, "INTERNAL"), f"The answer was broken off ({name}).")
