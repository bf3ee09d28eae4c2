"""The encoders of a response with somebody looking on: which bytes were made from which events."""

from __future__ import annotations

from portico.errors import PorticoError
from portico.generation import Delta
from portico.protocols.encoders import BodyEncoder, StreamEncoder
from portico.trace.record import Record

__all__ = ["TracedBody", "TracedStream"]


class TracedStream:
    """A stream's encoder; what it makes is recorded as frames."""

    def __init__(self, encoder: StreamEncoder, trace: Record) -> None:
        self._encoder, self._trace = encoder, trace

    def start(self) -> bytes:
        """The bytes before any delta; they are written first though deltas may have come."""
        return self._framed(self._encoder.start(), self._trace.submitted_as, "the head of the stream", first=True)

    def feed(self, delta: Delta, position: int) -> bytes:
        """The bytes of one delta."""
        return self._framed(self._encoder.feed(delta, position), self._trace.made)

    def finish(self) -> bytes:
        """The bytes after the last delta."""
        return self._framed(self._encoder.finish(), self._trace.finishes, "the end of the stream")

    def fail(self, error: PorticoError) -> bytes:
        """The bytes of an error inside the stream."""
        return self._framed(self._encoder.fail(error), [self._trace.faulty(error)], "an error inside the stream")

    def keep_alive(self) -> bytes:
        """The bytes of silence."""
        return self._framed(self._encoder.keep_alive(), self._trace.submitted_as, "keep-alive: nothing has come")

    def _framed(self, data: bytes, of: list[int], label: str = "", *, first: bool = False) -> bytes:
        if data:
            self._trace.framed(data, of, label, first=first)
        return data


class TracedBody:
    """A whole body's encoder; the body is made from everything that was fed to it."""

    def __init__(self, encoder: BodyEncoder, trace: Record) -> None:
        self._encoder, self._trace = encoder, trace
        self._of: list[int] = []

    def feed(self, delta: Delta, position: int) -> None:
        """Fold one delta in."""
        self._encoder.feed(delta, position)
        self._of += self._trace.made

    def body(self) -> bytes:
        """The whole body."""
        data = self._encoder.body()
        self._trace.framed(data, self._of, "the body")
        return data
