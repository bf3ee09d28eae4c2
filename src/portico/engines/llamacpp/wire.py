"""The frames between the front door and the engine's process: msgpack, each after its length.

One frame is one message; one engine step is one frame. Request ids on the wire are the parent's own numbers, so that
an id which a client uses again cannot meet outputs of its former life.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from portico.events import EngineOutput, EngineRequest

__all__ = [
    "Abort",
    "Accepted",
    "Embed",
    "Embedded",
    "Failed",
    "Flush",
    "Flushed",
    "FrameReader",
    "FromEngine",
    "Load",
    "Ready",
    "Rejected",
    "Step",
    "Submit",
    "ToEngine",
    "encode",
    "from_engine",
    "to_engine",
]

_LENGTH_BYTES: Final = 4  # little-endian


class Load(Struct, tag=True, array_like=True):
    """The first message: what to load and how. None is for the engine to choose."""

    model_path: str
    context_length: int | None
    max_sequences: int
    threads: int
    batch_tokens: int
    cache_tokens: int | None
    embedding: bool


class Submit(Struct, tag=True, array_like=True):
    """Generate. Answered by ``Accepted`` or ``Rejected``, then outputs in ``Step``."""

    request: EngineRequest


class Abort(Struct, tag=True, array_like=True):
    """Forget a ``Submit`` or an ``Embed``; not answered."""

    request_id: str


class Embed(Struct, tag=True, array_like=True):
    """Embed token sequences. Answered by ``Embedded`` or ``Rejected``."""

    request_id: str
    inputs: list[list[int]]


class Flush(Struct, tag=True, array_like=True):
    """Forget cached prefixes. Answered by ``Flushed``."""

    request_id: str


class Ready(Struct, tag=True, array_like=True):
    """The model is loaded. ``embedding_size`` is None for a generating engine."""

    context_length: int
    vocab_size: int
    end_tokens: list[int]
    embedding_size: int | None
    metadata: dict[str, Any]


class Failed(Struct, tag=True, array_like=True):
    """The engine cannot start or go on; its process ends after this."""

    message: str


class Accepted(Struct, tag=True, array_like=True):
    """The request is queued."""

    request_id: str


class Rejected(Struct, tag=True, array_like=True):
    """The request cannot be served; ``param`` names the field at fault, None means that the engine is."""

    request_id: str
    message: str
    param: str | None


class Step(Struct, tag=True, array_like=True):
    """What one engine step gave all requests."""

    outputs: list[EngineOutput]


class Embedded(Struct, tag=True, array_like=True):
    """``vectors`` are the float32 rows of one ``Embed``, in the order of its inputs."""

    request_id: str
    vectors: bytes


class Flushed(Struct, tag=True, array_like=True):
    """What a ``Flush`` came to; ``whole`` when nothing of earlier prompts is kept."""

    request_id: str
    whole: bool


ToEngine: TypeAlias = Load | Submit | Abort | Embed | Flush
FromEngine: TypeAlias = Ready | Failed | Accepted | Rejected | Step | Embedded | Flushed

to_engine: Final = msgspec.msgpack.Decoder(ToEngine)
from_engine: Final = msgspec.msgpack.Decoder(FromEngine)
_encoder: Final = msgspec.msgpack.Encoder()


def encode(message: ToEngine | FromEngine) -> bytes:
    """The message as one frame."""
    frame = bytearray(_LENGTH_BYTES)
    _encoder.encode_into(message, frame, _LENGTH_BYTES)
    frame[:_LENGTH_BYTES] = (len(frame) - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES, "little")
    return bytes(frame)


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
