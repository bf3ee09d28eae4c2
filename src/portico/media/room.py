"""The memory that decoded media may take, over all requests together: who finds no room waits for it, in turn.

A small file can be many pixels, and they stay as long as the request is computed. A request takes room for the most
that its media can become before any is decoded, gives back what they did not need, and the rest when it is over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

from portico.errors import OverloadedError

__all__ = ["ROOM", "Room"]

ROOM: Final = 1 << 30  # bytes
PATIENCE: Final = 60.0  # seconds of waiting; a client that is told sooner would only ask again


class _Waiting(NamedTuple):
    size: int
    turn: asyncio.Future[None]


class Room:
    """At most ``most`` bytes; what alone is more than that waits until it is alone."""

    def __init__(self, most: int = ROOM) -> None:
        self._most = most
        self._free = most
        self._waiting: deque[_Waiting] = deque()

    async def take(self, size: int) -> int:
        """How many bytes were taken, to be given back. Raises ``OverloadedError`` where there is no room for long."""
        size = min(size, self._most)
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.give(0)
        try:
            await asyncio.wait_for(waiting.turn, PATIENCE)
        except BaseException as error:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                self.give(0)  # a smaller one behind it may fit
            elif waiting.turn.done() and not waiting.turn.cancelled():
                self.give(size)
            if isinstance(error, TimeoutError):
                raise OverloadedError("Too many images and sounds are in use; try again.", retry_after=5) from None
            raise
        return size

    def give(self, size: int) -> None:
        """So many bytes are free again: whose turn it is goes on."""
        self._free += size
        while self._waiting and self._waiting[0].size <= self._free:
            waiting = self._waiting.popleft()
            if not waiting.turn.done():
                self._free -= waiting.size
                waiting.turn.set_result(None)
