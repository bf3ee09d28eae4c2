"""What every process that serves has: an event loop, files, a log, memory that it gives back when it has started."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

from rich.logging import RichHandler

from portico.config import Settings
from portico.terminal import JsonLogFormatter, LogFormatter, ShortLogFormatter, Terminal, waiting

__all__ = ["give_back", "loading", "run", "start_logging"]

log = logging.getLogger("portico")

COLLECTED = (10_000, 10, 20)  # the collector's thresholds: it looks at everything after two million new objects


def run(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work`` on an event loop of its own, with as many open files as the system allows."""
    _allow_open_files()
    loop = _new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(work)
    finally:
        loop.close()


def start_logging(settings: Settings) -> None:
    """Colours and short lines for people, one plain line or JSON object per event for files and collectors."""
    handler: logging.Handler
    if settings.log_format == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLogFormatter())
    elif sys.stderr.isatty():
        handler = RichHandler(console=Terminal(stderr=True), show_path=False, log_time_format="[%X]")
        handler.setFormatter(ShortLogFormatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(settings.log_level.upper())


@contextlib.contextmanager
def loading(settings: Settings) -> Iterator[None]:
    """Say which models are loaded meanwhile, as far as they are loaded here: on a terminal as long as it takes, else in
    the log."""
    names = ", ".join(one.model for one in settings.each_model if not one.elsewhere and one.load == "start")
    if not names:
        yield
        return
    if not sys.stderr.isatty():
        log.info("loading %s", names)
    with waiting(f"Loading {names}"):
        yield


def _allow_open_files() -> None:
    """Each connection is one; many systems start a process with 1,024 and let it have far more."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit; others may refuse
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows has no uvloop
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def give_back() -> None:
    """What start-up made lives as long as the process and need not be looked at again; what it used up goes back.

    Open answers need not be looked at so often, either: what is done with one frees itself, but for a few objects. With
    ten thousand of them open the collector took most of the processor's time, and held all of them up for a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED)
    with contextlib.suppress(OSError, AttributeError):  # others than GNU's C library give it back by themselves
        ctypes.CDLL(None).malloc_trim(0)
