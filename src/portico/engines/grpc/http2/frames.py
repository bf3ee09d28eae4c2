"""HTTP/2 frames (RFC 9113, section 4): a byte stream cut into them, and frames as bytes. Pure.

A frame is its length (24 bits), kind (8), flags (8), stream (31, behind a reserved bit), and its payload.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, TypeAlias

__all__ = [
    "ACK",
    "END_HEADERS",
    "END_STREAM",
    "MOST_PAYLOAD",
    "PADDED",
    "PREFACE",
    "PRIORITY_FIELDS",
    "Broken",
    "Code",
    "Frame",
    "FrameReader",
    "Kind",
    "Setting",
    "frame",
    "number_frame",
    "settings_frame",
    "unpadded",
]

Frame: TypeAlias = tuple[int, int, int, bytes]  # kind, flags, stream, payload

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # what a client begins with
MOST_PAYLOAD: Final = 16_384  # bytes; what a peer may send that was told nothing else

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FIELDS: Final = 0x20

_HEAD: Final = Struct(">HBBBL")
_SETTING: Final = Struct(">HL")
_LOW_31: Final = 0x7FFF_FFFF


class Kind(IntEnum):
    """Of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """What one side tells the other about itself."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Broken(Exception):
    """The peer does not keep to the protocol, so the connection cannot go on. ``why`` ends a sentence."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


class FrameReader:
    """Cuts a byte stream into frames, however it arrives."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes. Raises ``Broken`` for one that is too long."""
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        at, end, unpack = 0, len(data), _HEAD.unpack_from
        while end - at >= 9:
            high, low, kind, flags, stream = unpack(data, at)
            size = high << 8 | low
            if size > MOST_PAYLOAD:
                raise Broken(Code.FRAME_SIZE_ERROR, f"a frame of {size} bytes is longer than was agreed")
            start = at + 9
            if end - start < size:
                break
            at = start + size
            frames.append((kind, flags, stream & _LOW_31, data[start:at]))
        self._rest = data[at:]
        return frames


def unpadded(payload: bytes) -> bytes:
    """What is left of a padded frame's payload. Raises ``Broken`` where there is more padding than payload."""
    if not payload or payload[0] >= len(payload):
        raise Broken(Code.PROTOCOL_ERROR, "a frame has more padding than content")
    return payload[1 : len(payload) - payload[0]]


def frame(kind: Kind, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """One frame as bytes."""
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def number_frame(kind: Kind, stream: int, number: int) -> bytes:
    """A frame whose payload is one number: ``RST_STREAM`` with its code, ``WINDOW_UPDATE`` with its increment."""
    return frame(kind, stream, number.to_bytes(4, "big"))


def settings_frame(settings: dict[Setting, int]) -> bytes:
    """One side's settings."""
    return frame(Kind.SETTINGS, 0, b"".join(_SETTING.pack(*one) for one in settings.items()))
