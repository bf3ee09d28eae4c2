"""What is still done for answers that no connection waits for: keeping them, writing their events down."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Endings"]


class Endings:
    """The work that a server finishes before it ends."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds no task

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this work beside all else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, seconds: float) -> int:
        """Until all is done, or so many seconds have passed; returns how much is not done."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._tasks and (left := until - loop.time()) > 0:  # what ends may begin more
            await asyncio.wait(self._tasks, timeout=left)
        return len(self._tasks)
