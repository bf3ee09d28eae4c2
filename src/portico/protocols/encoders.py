"""What a protocol's two encoders are: deltas in, bytes out, as a stream or as one body."""

from __future__ import annotations

from typing import Protocol

from portico.errors import PorticoError
from portico.generation import Delta

__all__ = ["BodyEncoder", "StreamEncoder"]


class StreamEncoder(Protocol):
    """Deltas -> the bytes of a stream, as they come. ``position`` counts the generations of one request."""

    def start(self) -> bytes:
        """At admission, before any delta."""
        ...

    def feed(self, delta: Delta, position: int) -> bytes:
        """One delta; may be nothing."""
        ...

    def finish(self) -> bytes:
        """After the last delta."""
        ...

    def fail(self, error: PorticoError) -> bytes:
        """The stream ends with an error; in place of what would follow."""
        ...

    def keep_alive(self) -> bytes:
        """Nothing has come for a while."""
        ...


class BodyEncoder(Protocol):
    """Deltas -> one body: their fold."""

    def feed(self, delta: Delta, position: int) -> None:
        """Fold one delta in."""
        ...

    def body(self) -> bytes:
        """The body, once every choice is finished."""
        ...
