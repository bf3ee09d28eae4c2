"""What waits for a carrier that takes one message at a time: all that has come meanwhile goes in the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["MOST_WAITING", "Outgoing"]

MOST_JOINED: Final = 1 << 20  # bytes after which a message takes no further frame; a frame is never cut
MOST_WAITING: Final = 64 << 20  # bytes; whoever lags so far behind is given up


class Outgoing:
    """Frames on their way out, in their order."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self.waiting = 0  # bytes, those that are being sent included
        self._some = asyncio.Event()
        self._closed = False

    @property
    def stalled(self) -> bool:
        """Whether the other side reads so slowly that it is to be given up."""
        return self.waiting > MOST_WAITING

    def put(self, frame: bytes) -> None:
        """One more frame."""
        self._frames.append(frame)
        self.waiting += len(frame)
        self._some.set()

    def close(self) -> None:
        """Send no more; ``pump`` ends after the message that it is at."""
        self._closed = True
        self._frames.clear()
        self._some.set()

    async def pump(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Send what there is and what comes, until ``close``, or ``write`` raises."""
        while not self._closed:
            await self._some.wait()
            self._some.clear()
            while self._frames:
                message = self._next()
                await write(message)
                self.waiting -= len(message)

    def _next(self) -> bytes:
        joined = [self._frames.popleft()]
        size = len(joined[0])
        while self._frames and size < MOST_JOINED:
            joined.append(self._frames.popleft())
            size += len(joined[-1])
        return b"".join(joined)
