"""The run of ``portico bench``: who asks when."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from portico.commands.bench.asking import Asker, Outcome
from portico.commands.bench.local import cpu_seconds, listening
from portico.errors import PorticoError
from portico.terminal import Terminal

__all__ = ["first_model", "run"]

LOOPBACK: Final = {"127.0.0.1", "localhost", "::1"}


def first_model(listed: dict[str, Any]) -> str:
    """The first name of ``/v1/models``. Raises ``PorticoError`` where there is none."""
    try:
        return str(listed["data"][0]["id"])
    except (KeyError, IndexError, TypeError):
        raise PorticoError("The server lists no models: name one with --model.") from None


async def run(
    askers: Sequence[Asker], requests: int, rate: float, url: str
) -> tuple[list[Outcome], float, float | None]:
    """Ask so often in all, at most ``rate`` times a second (0: no limit). The outcomes, how many seconds it took, and
    the server's processor time if it can be known."""
    parts = urlsplit(url)
    served_by = listening(parts.port or 80) if parts.hostname in LOOPBACK else []
    before = sum(map(cpu_seconds, served_by))
    started = time.perf_counter()
    outcomes: list[Outcome] = []
    numbers = iter(range(requests))

    async def one(asker: Asker, show: Callable[[], None]) -> None:
        for number in numbers:
            if rate:
                await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            outcomes.append(await asker.ask())
            show()

    with _progress(requests) as show, _no_collector():
        await asyncio.gather(*(one(asker, show) for asker in askers))
    seconds = time.perf_counter() - started
    for asker in askers:
        asker.close()
    return outcomes, seconds, sum(map(cpu_seconds, served_by)) - before if served_by else None


@contextmanager
def _no_collector() -> Iterator[None]:
    """With thousands of answers open Python's collector would hold up all of them for seconds; here are no circles."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Give what to call for every answer: draws a bar on a terminal, and nothing elsewhere."""
    console = Terminal(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=total)
        yield lambda: bars.advance(task)
