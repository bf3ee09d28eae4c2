"""The frames between a hub and the processes that share its engine: msgpack, each after its length.

``number`` is the process's own number of a request, and its outputs' ``request_id`` (as text) on the way back.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from portico import errors
from portico.engines.llamacpp.wire import FrameReader
from portico.errors import PorticoError
from portico.events import EngineOutput, EngineRequest

__all__ = [
    "NOBODY",
    "Abort",
    "Done",
    "Embed",
    "Facts",
    "Failed",
    "FlushCache",
    "FrameReader",
    "FromHub",
    "Health",
    "Step",
    "Submit",
    "ToHub",
    "encode",
    "error_of",
    "failure",
    "from_hub",
    "to_hub",
]

NOBODY: Final = 0  # no request's number: the failure is the engine's, which cannot start
_LENGTH_BYTES: Final = 4  # little-endian, as FrameReader has it


class Submit(Struct, tag=True, array_like=True):
    """Generate; the request's id is its number. Answered by ``Done`` or ``Failed``, then outputs in ``Step``."""

    number: int
    request: EngineRequest


class Abort(Struct, tag=True, array_like=True):
    """Forget a request; not answered."""

    number: int


class Embed(Struct, tag=True, array_like=True):
    """Embed token sequences. Answered by ``Done`` or ``Failed``."""

    number: int
    inputs: list[list[int]]


class FlushCache(Struct, tag=True, array_like=True):
    """Forget cached prefixes. Answered by ``Done`` or ``Failed``."""

    number: int


class Facts(Struct, tag=True, array_like=True):
    """What the engine is: the fields of ``EngineInfo``. The first frame."""

    info: dict[str, Any]
    flushes: bool


class Health(Struct, tag=True, array_like=True):
    """Whether the engine can take requests; sent when it turns."""

    healthy: bool


class Done(Struct, tag=True, array_like=True):
    """A question is answered: a request taken, vectors (float32 rows and token counts), a cache flushed."""

    number: int
    vectors: bytes = b""
    tokens: list[int] = []
    flushed: bool = False


class Failed(Struct, tag=True, array_like=True):
    """A question is refused; the error by the name of its class."""

    number: int
    kind: str
    message: str
    param: str | None
    code: str | None
    retry_after: int | None


class Step(Struct, tag=True, array_like=True):
    """What one engine step gave the requests of this process."""

    outputs: list[EngineOutput]


ToHub: TypeAlias = Submit | Abort | Embed | FlushCache
FromHub: TypeAlias = Facts | Health | Done | Failed | Step

to_hub: Final = msgspec.msgpack.Decoder(ToHub)
from_hub: Final = msgspec.msgpack.Decoder(FromHub)
_encoder: Final = msgspec.msgpack.Encoder()


def encode(message: ToHub | FromHub) -> bytes:
    """The message as one frame."""
    frame = bytearray(_LENGTH_BYTES)
    _encoder.encode_into(message, frame, _LENGTH_BYTES)
    frame[:_LENGTH_BYTES] = (len(frame) - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES, "little")
    return bytes(frame)


def failure(number: int, error: PorticoError) -> Failed:
    """The frame that carries ``error``."""
    return Failed(number, type(error).__name__, error.message, error.param, error.code, error.retry_after)


def error_of(failed: Failed) -> PorticoError:
    """The error that the frame carries."""
    kind = getattr(errors, failed.kind, PorticoError)
    error: PorticoError = kind(failed.message, param=failed.param, retry_after=failed.retry_after)
    error.code = failed.code
    return error
