"""Work compared with work in one run: no clock on a wall says whether something is linear."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["calls", "growth"]

ATTEMPTS = 8


def growth(work: Callable[[int], object], size: int, times: int = 2) -> float:
    """How many times the processor time of ``work(size)`` a size ``times`` as large takes: about ``times`` where it is
    linear, its square where it is quadratic. The best of runs that take turns, which other work on the machine can
    only make larger; ends early once it is nearer to the first than to the second."""
    small = large = float("inf")
    for _ in range(ATTEMPTS):
        small = min(small, _seconds(work, size))
        large = min(large, _seconds(work, size * times))
        if large / small < times**1.3:
            break
    return large / small


def _seconds(work: Callable[[int], object], size: int) -> float:
    started = time.process_time()
    work(size)
    return max(time.process_time() - started, 1e-6)


def calls(work: Callable[[], object]) -> int:
    """How many functions ``work`` calls, those written in C among them."""
    count = 0

    def seen(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
