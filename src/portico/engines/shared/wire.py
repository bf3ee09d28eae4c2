"""The frames between a process that has an engine and one that uses it: msgpack, each after its length.

On one machine they cross a socket, between machines a gRPC stream (``portico.v1.Engine``).

One frame is one message, and one engine step is one frame. ``number`` is the using process's own number of a request,
and its outputs' ``request_id`` (as text) on the way back: an id that a client uses again cannot meet outputs of its
former life.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from portico import errors
from portico.engines import EngineInfo
from portico.errors import PorticoError
from portico.events import EngineOutput, EngineRequest, Media

__all__ = [
    "NOBODY",
    "VERSION",
    "VERSION_NAME",
    "Abort",
    "Adapt",
    "Done",
    "Embed",
    "Expand",
    "Facts",
    "Failed",
    "FlushCache",
    "FrameReader",
    "FromHub",
    "Health",
    "Ping",
    "Pong",
    "Step",
    "Submit",
    "ToHub",
    "encode",
    "error_of",
    "facts",
    "failure",
    "from_hub",
    "step",
    "to_hub",
]

VERSION: Final = 1  # of these frames; between machines both ends must be of one
VERSION_NAME: Final = "portico-wire"  # in a gRPC call's metadata
NOBODY: Final = 0  # no request's number: the failure is the engine's, which cannot start
_LENGTH_BYTES: Final = 4  # little-endian


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


class Expand(Struct, tag=True, array_like=True):
    """Give a prompt's media room. Answered by ``Done`` with its tokens, or ``Failed``."""

    number: int
    media: Media


class FlushCache(Struct, tag=True, array_like=True):
    """Forget cached prefixes. Answered by ``Done`` or ``Failed``."""

    number: int


class Adapt(Struct, tag=True, array_like=True):
    """Load the LoRA adapter at ``path``, in place of one of that name; None: unload it. Answered by ``Done`` or
    ``Failed``."""

    number: int
    name: str
    path: str | None


class Ping(Struct, tag=True, array_like=True):
    """A sign of life is wanted: ``Pong``, as soon as the engine is done with the batch that it is at."""


class Facts(Struct, tag=True, array_like=True):
    """What the engine is: the fields of ``EngineInfo``. With it the engine is known, health included."""

    info: dict[str, Any]
    flushes: bool


class Health(Struct, tag=True, array_like=True):
    """Whether the engine can take requests; sent when it turns. One that is ``leaving`` takes no more, and gives those
    that it has a while."""

    healthy: bool
    leaving: bool = False


class Done(Struct, tag=True, array_like=True):
    """A question is answered: a request taken, vectors (float32 rows and token counts), a prompt expanded (its tokens),
    a cache flushed."""

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


class Pong(Struct, tag=True, array_like=True):
    """The engine is alive, and running requests hold that share of its KV cache, where it says."""

    cache_usage: float | None = None


class Step(Struct, tag=True, array_like=True):
    """What one engine step gave the requests of this process: ``numbers`` got a token each, which runs parallel, and
    ``outputs`` say more. Made by ``step``."""

    numbers: list[int]
    tokens: list[int]
    outputs: list[EngineOutput]


ToHub: TypeAlias = Submit | Abort | Embed | Expand | FlushCache | Adapt | Ping
FromHub: TypeAlias = Facts | Health | Done | Failed | Pong | Step

to_hub: Final = msgspec.msgpack.Decoder(ToHub)
from_hub: Final = msgspec.msgpack.Decoder(FromHub)
_encoder: Final = msgspec.msgpack.Encoder()


def encode(message: ToHub | FromHub) -> bytes:
    """The message as one frame."""
    frame = bytearray(_LENGTH_BYTES)
    _encoder.encode_into(message, frame, _LENGTH_BYTES)
    frame[:_LENGTH_BYTES] = (len(frame) - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES, "little")
    return bytes(frame)


def step(outputs: Sequence[EngineOutput]) -> Step:
    """The frame of these outputs, whose ids are numbers as text; most are a token and nothing else."""
    numbers, tokens, others = [], [], []
    for output in outputs:
        ids = output.token_ids
        if (
            len(ids) == 1
            and output.finish_reason is None
            and output.logprobs is None
            and output.cached_tokens is None
            and output.prompt_logprobs is None
        ):
            numbers.append(int(output.request_id))
            tokens.append(ids[0])
        else:
            others.append(output)
    return Step(numbers, tokens, others)


def facts(info: EngineInfo, flushes: bool) -> Facts:
    """The frame that says what the engine is."""
    return Facts({field.name: getattr(info, field.name) for field in fields(info)}, flushes)


def failure(number: int, error: PorticoError) -> Failed:
    """The frame that carries ``error``."""
    return Failed(number, type(error).__name__, error.message, error.param, error.code, error.retry_after)


def error_of(failed: Failed) -> PorticoError:
    """The error that the frame carries."""
    kind = getattr(errors, failed.kind, PorticoError)
    error: PorticoError = kind(failed.message, param=failed.param, retry_after=failed.retry_after)
    error.code = failed.code
    return error


class FrameReader:
    """Cuts a byte stream into frames, however it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes, without their lengths."""
        buffer = self._buffer
        buffer += data
        frames, at = [], 0
        while len(buffer) - at >= _LENGTH_BYTES:
            start = at + _LENGTH_BYTES
            end = start + int.from_bytes(buffer[at:start], "little")
            if end > len(buffer):
                break
            frames.append(bytes(buffer[start:end]))
            at = end
        del buffer[:at]
        return frames
