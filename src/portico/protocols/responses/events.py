"""Events of a response's stream: numbered, without gaps, each a server-sent event that repeats its type.

Most events of a stream are pieces of text. What is the same in all pieces of one item is encoded once (``Pieces``).
"""

from __future__ import annotations

from typing import Any

import orjson

from portico.protocols import sse
from portico.protocols.coding import encoded

__all__ = ["Events", "NoEvents", "Pieces"]


class Pieces:
    """The frame around the pieces of one text."""

    def __init__(self, kind: str, ids: dict[str, Any], behind: bytes = b"") -> None:
        head = orjson.dumps({"type": kind, **ids})[:-1]
        self.before = b'event: %b\ndata: %b,"sequence_number":' % (kind.encode(), head)
        self.behind = behind + b"}\n\n"


class Events:
    """Collects events as bytes until they are taken."""

    def __init__(self) -> None:
        self.count = 0
        self._frames: list[bytes] = []

    def add(self, kind: str, **fields: Any) -> None:
        """One event of this type."""
        data = encoded({"type": kind, "sequence_number": self.count, **fields})
        self._frames.append(sse.event(data, kind))
        self.count += 1

    def piece(self, pieces: Pieces, text: str) -> None:
        """One piece of a text."""
        self._frames.append(self._piece(pieces, text))

    def piece_now(self, pieces: Pieces, text: str) -> bytes:
        """The same, taken at once with what waits before it."""
        if self._frames:
            self.piece(pieces, text)
            return self.take()
        return self._piece(pieces, text)

    def _piece(self, pieces: Pieces, text: str) -> bytes:
        number = self.count
        self.count = number + 1
        return b'%b%d,"delta":%b%b' % (pieces.before, number, orjson.dumps(text), pieces.behind)

    def take(self) -> bytes:
        """What has come since the last time."""
        frames = self._frames
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        return data


class NoEvents(Events):
    """For an answer that is sent as one body."""

    def add(self, kind: str, **fields: Any) -> None:
        """Nobody reads it."""

    def piece(self, pieces: Pieces, text: str) -> None:
        """Nobody reads it."""
