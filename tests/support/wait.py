"""Waiting, for as long as it takes: no test may depend on how fast the machine is, so there is one limit for all, which
only a fault reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

__all__ = ["SAFETY", "eventually", "until"]

SAFETY = 120.0  # seconds


def until(condition: Callable[[], object]) -> None:
    """Return when ``condition`` holds."""
    for pause in _pauses():
        if condition():
            return
        time.sleep(pause)


async def eventually(condition: Callable[[], object]) -> None:
    """``until`` for coroutines."""
    for pause in _pauses():
        if condition():
            return
        await asyncio.sleep(pause)


def _pauses() -> Iterator[float]:
    """Seconds between two looks: the longer it takes, the longer, so that what is soon there is soon seen."""
    limit, pause = time.monotonic() + SAFETY, 0.001
    while time.monotonic() < limit:
        yield pause
        pause = min(2 * pause, 0.05)
    raise AssertionError("waited too long")
