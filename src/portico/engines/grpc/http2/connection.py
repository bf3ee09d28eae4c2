"""One HTTP/2 connection, seen from the client (RFC 9113). Pure: bytes come by ``receive``, and go by ``take``.

- What may be sent is bounded by the peer's windows, and waits at its stream. What is received is handed on at once, so
  our windows bound nothing: they are large, and given back in bulk; few streams of an engine ever need that.
- A peer that does not keep to the protocol is ``Broken``; whoever has the socket then ends the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import iter_unpack
from typing import Final

from portico.engines.grpc.http2.fields import FieldReader, Fields
from portico.engines.grpc.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MOST_PAYLOAD,
    PADDED,
    PREFACE,
    PRIORITY_FIELDS,
    Broken,
    Code,
    FrameReader,
    Kind,
    Setting,
    frame,
    number_frame,
    settings_frame,
    unpadded,
)
from portico.engines.grpc.http2.status import RpcError, of_reset

__all__ = ["Connection", "Stream"]

_DATA: Final = int(Kind.DATA)

STREAM_WINDOW: Final = 1 << 20  # bytes that the peer may send on a stream before it hears from us
CONNECTION_WINDOW: Final = 16 << 20  # the same on all streams together
MOST_HELD: Final = 8 << 20  # bytes that may wait while the peer does not read: answers to its frames, mostly
_FIRST_WINDOW: Final = 65_535  # what both sides begin with
_MOST_WINDOW: Final = 0x7FFF_FFFF
_MOST_NUMBER: Final = 0x7FFF_FFFF


class Stream:
    """One stream. Who inherits it gets what comes; ``lost`` or ``ended`` is the last."""

    number: int
    unsent: bytearray
    ends = False  # after what is unsent there is nothing to come
    closed = False  # our end has been sent
    window = 0  # bytes that may be sent
    unacknowledged = 0  # bytes received that the peer does not know to be

    def head(self, fields: Fields) -> None:
        """The answer begins."""

    def data(self, payload: bytes) -> None:
        """More of the answer."""

    def ended(self, fields: Fields | None) -> None:
        """The peer is done; its last fields, if it had some."""

    def lost(self, error: RpcError) -> None:
        """It has ended otherwise."""


class Connection:
    """``wake`` is called when there is something to take."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._frames = FrameReader()
        self._fields = FieldReader()
        self._out = bytearray()
        self._streams: dict[int, Stream] = {}
        self._blocked: dict[int, Stream] = {}  # with something unsent
        self._next = 1
        self._most_streams = _MOST_NUMBER
        self._most_payload = MOST_PAYLOAD
        self._window = self._stream_window = _FIRST_WINDOW
        self._unacknowledged = 0
        self._block: tuple[int, int] | None = None  # stream and flags of the header block that is not complete
        self._held = False
        self.met = False  # its settings have come, which are the first that comes
        self.leaving = False  # it takes no further streams
        self._receivers: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.HEADERS: self._headers,
            Kind.CONTINUATION: self._continuation,
            Kind.RST_STREAM: self._reset,
            Kind.SETTINGS: self._settings,
            Kind.PUSH_PROMISE: self._push_promise,
            Kind.PING: self._ping,
            Kind.GOAWAY: self._goaway,
            Kind.WINDOW_UPDATE: self._window_update,
        }
        ours = {Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW}
        self._put(PREFACE + settings_frame(ours))
        self._put(number_frame(Kind.WINDOW_UPDATE, 0, CONNECTION_WINDOW - _FIRST_WINDOW))

    @property
    def idle(self) -> bool:
        """Whether there are no streams."""
        return not self._streams

    @property
    def full(self) -> bool:
        """Whether it takes no further stream now."""
        return self.leaving or len(self._streams) >= self._most_streams or self._next > _MOST_NUMBER

    # -- what is sent -------------------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """What is to be sent now."""
        if self._held:
            return b""
        out, self._out = self._out, bytearray()
        return bytes(out)

    def hold(self, held: bool) -> None:
        """Whether the peer, or the way to it, takes nothing at the moment."""
        self._held = held
        if not held:
            self._send_blocked()
            self._wake()

    def open(self, stream: Stream, fields: bytes, data: bytes, *, ends: bool) -> None:
        """A new stream, if it is not ``full``: its header block and what is sent with it; ``ends``: that is all."""
        number = self._next
        self._next += 2
        stream.number, stream.window = number, self._stream_window
        stream.unsent, stream.ends = bytearray(data), ends
        self._streams[number] = stream
        kind = Kind.HEADERS
        while len(fields) > self._most_payload:
            self._put(frame(kind, number, fields[: self._most_payload]))
            fields, kind = fields[self._most_payload :], Kind.CONTINUATION
        self._put(frame(kind, number, fields, END_HEADERS))
        self._send(stream)

    def send(self, stream: Stream, data: bytes) -> None:
        """More on a stream, if it is still open."""
        if self._streams.get(stream.number) is stream:
            stream.unsent += data
            self._send(stream)

    def cancel(self, stream: Stream) -> None:
        """End a stream, which hears no more; nothing if it has ended."""
        if self._streams.get(stream.number) is stream:
            self._drop(stream, Code.CANCEL)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._put(frame(Kind.PING, 0, bytes(8)))

    def part(self, code: Code) -> None:
        """Say why we go."""
        self._held = False
        self._put(frame(Kind.GOAWAY, 0, bytes(4) + code.to_bytes(4, "big")))

    def lose(self, error: RpcError) -> None:
        """The connection is gone, and all streams with it."""
        self.leaving = True
        lost = list(self._streams.values())
        self._streams.clear()
        self._blocked.clear()
        for stream in lost:
            stream.lost(error)

    def _put(self, data: bytes) -> None:
        if not self._out:
            self._wake()
        self._out += data

    def _send(self, stream: Stream) -> None:
        """Send of a stream what may be sent."""
        unsent, number = stream.unsent, stream.number
        while unsent and not self._held:
            size = min(len(unsent), self._window, stream.window, self._most_payload)
            if size <= 0:
                break
            payload = bytes(unsent[:size])
            del unsent[:size]
            self._window -= size
            stream.window -= size
            stream.closed = stream.ends and not unsent
            self._put(frame(Kind.DATA, number, payload, END_STREAM if stream.closed else 0))
        if unsent:
            self._blocked[number] = stream
            return
        self._blocked.pop(number, None)
        if stream.ends and not stream.closed:
            stream.closed = True
            self._put(frame(Kind.DATA, number, flags=END_STREAM))

    def _send_blocked(self) -> None:
        for stream in list(self._blocked.values()):
            if self._window <= 0:
                break
            self._send(stream)

    def _drop(self, stream: Stream, code: Code | None) -> None:
        """A stream is over; the peer is told why, where it does not know."""
        del self._streams[stream.number]
        self._blocked.pop(stream.number, None)
        if code is not None:
            self._put(number_frame(Kind.RST_STREAM, stream.number, code))

    # -- what is received ---------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """The next bytes. Raises ``Broken``."""
        for kind, flags, number, payload in self._frames.feed(data):
            if not self.met:
                if kind != Kind.SETTINGS or flags & ACK:
                    raise Broken(Code.PROTOCOL_ERROR, "it does not begin as HTTP/2 does")
                self.met = True
            if self._block is not None and (kind != Kind.CONTINUATION or number != self._block[0]):
                raise Broken(Code.PROTOCOL_ERROR, "a header block is broken off")
            if kind == _DATA:
                self._data(flags, number, payload)
            elif (receiver := self._receivers.get(kind)) is not None:  # others are to be ignored
                receiver(flags, number, payload)
        if self._held and len(self._out) > MOST_HELD:
            raise Broken(Code.ENHANCE_YOUR_CALM, "it asks much and reads nothing")

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._unacknowledged += size
        if self._unacknowledged > CONNECTION_WINDOW // 2:
            self._put(number_frame(Kind.WINDOW_UPDATE, 0, self._unacknowledged))
            self._unacknowledged = 0
        stream = self._streams.get(number)
        if stream is None:
            self._known(number)  # what comes after a reset is let pass
            return
        stream.unacknowledged += size
        if flags & PADDED:
            payload = unpadded(payload)
        if payload:
            stream.data(payload)
        if number not in self._streams:  # what came was too much for it
            return
        if flags & END_STREAM:
            self._end(stream, None)
        elif stream.unacknowledged > STREAM_WINDOW // 2:
            self._put(number_frame(Kind.WINDOW_UPDATE, number, stream.unacknowledged))
            stream.unacknowledged = 0

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        self._known(number)
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & PRIORITY_FIELDS:
            if len(payload) < 5:
                raise Broken(Code.FRAME_SIZE_ERROR, "a frame is too short")
            payload = payload[5:]
        self._piece(number, flags, payload, last=bool(flags & END_HEADERS))

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None:
            raise Broken(Code.PROTOCOL_ERROR, "a header block goes on that had not begun")
        self._piece(number, self._block[1], payload, last=bool(flags & END_HEADERS))

    def _piece(self, number: int, flags: int, payload: bytes, *, last: bool) -> None:
        fields = self._fields.feed(payload, last=last)
        self._block = None if last else (number, flags)
        stream = self._streams.get(number)
        if fields is None or stream is None:
            return
        if flags & END_STREAM:
            self._end(stream, fields)
        elif not fields.get(":status", "").startswith("1"):  # those announce an answer
            stream.head(fields)

    def _end(self, stream: Stream, fields: Fields | None) -> None:
        self._drop(stream, None if stream.closed else Code.NO_ERROR)
        stream.ended(fields)

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        self._known(number)
        code = _number(payload)
        stream = self._streams.get(number)
        if stream is not None:
            self._drop(stream, None)
            stream.lost(of_reset(code))

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        self._whole(number)
        if len(payload) % 6 or (flags & ACK and payload):
            raise Broken(Code.FRAME_SIZE_ERROR, "its settings have another length")
        if flags & ACK:
            return
        for name, value in iter_unpack(">HL", payload):
            if name == Setting.MAX_CONCURRENT_STREAMS:
                self._most_streams = value
            elif name == Setting.INITIAL_WINDOW_SIZE:
                if value > _MOST_WINDOW:
                    raise Broken(Code.FLOW_CONTROL_ERROR, "its window is too large")
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
            elif name == Setting.MAX_FRAME_SIZE:
                if not MOST_PAYLOAD <= value < 1 << 24:
                    raise Broken(Code.PROTOCOL_ERROR, "its frames have no such size")
                self._most_payload = value
        self._put(frame(Kind.SETTINGS, 0, flags=ACK))
        self._send_blocked()

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise Broken(Code.PROTOCOL_ERROR, "it pushes, which it was told not to")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        self._whole(number)
        if len(payload) != 8:
            raise Broken(Code.FRAME_SIZE_ERROR, "a ping has another length")
        if not flags & ACK:
            self._put(frame(Kind.PING, 0, payload, ACK))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        """It goes: streams behind the last that it names it has not begun, and others may."""
        self._whole(number)
        if len(payload) < 8:
            raise Broken(Code.FRAME_SIZE_ERROR, "a farewell is too short")
        self.leaving = True
        last = _number(payload[:4]) & _MOST_NUMBER
        for stream in [stream for stream in self._streams.values() if stream.number > last]:
            self._drop(stream, None)
            stream.lost(RpcError("UNAVAILABLE", "it is leaving, and has not begun this"))

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        more = _number(payload) & _MOST_WINDOW
        if not more:
            raise Broken(Code.PROTOCOL_ERROR, "it widens a window by nothing")
        if number == 0:
            self._window += more
            if self._window > _MOST_WINDOW:
                raise Broken(Code.FLOW_CONTROL_ERROR, "its window is too large")
            self._send_blocked()
            return
        self._known(number)
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.window += more
        if stream.window > _MOST_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "its window is too large")
        if number in self._blocked:
            self._send(stream)

    def _known(self, number: int) -> None:
        """Raise ``Broken`` unless it is a stream that was opened, at some time."""
        if not number & 1 or number >= self._next:
            raise Broken(Code.PROTOCOL_ERROR, f"it speaks on stream {number}, which nobody has opened")

    def _whole(self, number: int) -> None:
        """Raise ``Broken`` for a frame on a stream that is about the connection as a whole."""
        if number:
            raise Broken(Code.PROTOCOL_ERROR, "a frame about the connection is on a stream")


def _number(payload: bytes) -> int:
    if len(payload) != 4:
        raise Broken(Code.FRAME_SIZE_ERROR, "a number has another length")
    return int.from_bytes(payload, "big")
