"""Waiting, for as long as it takes: no test may depend on how fast the machine is, so there is one limit for all, which
only a fault reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["SAFETY", "eventually", "until"]

SAFETY = 120.0  # seconds


def until(condition: Callable[[], object]) -> None:
    """Return when ``condition`` holds."""
    limit = time.monotonic() + SAFETY
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.05)


async def eventually(condition: Callable[[], object]) -> None:
    """``until`` for coroutines."""
    limit = time.monotonic() + SAFETY
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        await asyncio.sleep(0.02)
