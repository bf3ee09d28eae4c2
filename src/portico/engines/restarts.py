"""Bringing back what dies: at once, and then ever more patiently, until a life has been steady again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, Protocol, TypeVar

from portico.errors import EngineError

__all__ = ["Backoff", "keep_alive"]

log = logging.getLogger("portico")

FIRST_DELAY: Final = 0.1  # seconds before a second restart; doubled each time
LONGEST_DELAY: Final = 30.0
STEADY_AFTER: Final = 60.0  # seconds of life after which the delays start afresh


class Backoff:
    """How long to wait before something that died is started again."""

    def __init__(self) -> None:
        self._next = 0.0

    def delay(self, lived: float) -> float:
        """Seconds to wait after a life of ``lived`` seconds; 0 for what never came to life."""
        delay = 0.0 if lived > STEADY_AFTER else self._next
        self._next = min(max(FIRST_DELAY, 2 * delay), LONGEST_DELAY)
        return delay


class Mortal(Protocol):
    """A running process; ``gone`` completes with a sentence that says how it ended."""

    @property
    def gone(self) -> asyncio.Future[str]: ...


Process = TypeVar("Process", bound=Mortal)


async def keep_alive(
    process: Process, launch: Callable[[], Awaitable[Process]], lost: Callable[[str], None]
) -> NoReturn:
    """Start another whenever one dies, until cancelled. ``launch`` raises ``EngineError`` or ``OSError`` when it
    cannot. ``lost`` is told of every death, and of every launch that failed, how it came."""
    loop = asyncio.get_running_loop()
    backoff = Backoff()
    while True:
        born = loop.time()
        how = await asyncio.shield(process.gone)  # others wait for it too
        log.error("the engine stopped: %s; it is started again", how)
        lost(how)
        delay = backoff.delay(loop.time() - born)
        while True:
            await asyncio.sleep(delay)
            try:
                process = await launch()
                log.info("the engine is back")
                break
            except (EngineError, OSError) as error:
                delay = backoff.delay(0.0)
                log.error("the engine cannot be started: %s; tried again in %g s", error, delay)
                lost(str(error))
