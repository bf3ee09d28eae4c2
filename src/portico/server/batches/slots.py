"""How many lines run at a time: as many as other requests leave free, and for all batches in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["Slots"]

LOOK: Final = 0.02  # seconds between two looks at whether others have left room


class Slots:
    """``most`` slots, less what ``busy`` says is in flight beside those that were taken here.

    ``busy`` counts everything that is in flight; what was taken is part of it as soon as it is there.
    """

    def __init__(self, most: int, busy: Callable[[], int]) -> None:
        self.most = most
        self._busy = busy
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._look: asyncio.TimerHandle | None = None

    async def take(self) -> None:
        """Returns with a slot, when it is one's turn and one is free."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            raise

    def give(self) -> None:
        """Give one back."""
        self._taken -= 1
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self.most > max(self._taken, self._busy()):
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)
        if self._waiting and self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK, self._again)

    def _again(self) -> None:
        self._look = None
        self._serve()
