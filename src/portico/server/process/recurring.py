"""What a server does with its store again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from portico.errors import StoreError

__all__ = ["recurring"]


async def recurring(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do it every so many seconds, until cancelled. A store that fails logs it; the next time is another chance."""
    while True:
        await asyncio.sleep(seconds)
        with suppress(StoreError):
            await work()
