"""The process that has vLLM: ``python -m portico.engines.vllm.child FD``, what to load as a line on standard input.

It shares its engine with the front door over the inherited socket FD, and lives as long as standard input is open. It
leads a session of its own, so Ctrl-C in a terminal does not reach vLLM before the front door has drained. Every process
that vLLM has started ends with it: the front door sees to that, or, where that is gone, this process itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from typing import Final

import msgspec

from portico.engines.shared import Hub, wire
from portico.engines.vllm.core import VllmCore
from portico.engines.vllm.process import GOODBYE, Load
from portico.errors import PorticoError

__all__ = ["main"]

HEALTH_SECONDS: Final = 0.1  # between looks at the core
LINGERING: Final = 2.0  # seconds that the other processes get when the front door is gone


def main() -> None:
    """Serve the front door until it has gone, or the core has died."""
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # as 'vllm serve' does
    load = msgspec.json.decode(sys.stdin.buffer.readline(), type=Load)
    life = _Life()
    threading.Thread(target=life.end_with_front_door, name="front door", daemon=True).start()
    asyncio.run(_serve(load, socket.socket(fileno=int(sys.argv[1])), life))


class _Life:
    """When to leave. Before there is anything to leave in good order, the process is just ended."""

    def __init__(self) -> None:
        self.orphaned = True  # until the front door says goodbye
        self._loop: asyncio.AbstractEventLoop | None = None
        self.over = asyncio.Event()

    def begins(self) -> None:
        """The engine is loaded."""
        self._loop = asyncio.get_running_loop()

    def end_with_front_door(self) -> None:
        """Runs in a thread: standard input is open as long as the front door wants this process."""
        while os.read(0, 1):
            self.orphaned = False
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.over.set)
            time.sleep(GOODBYE)
        os.killpg(0, signal.SIGKILL)


async def _serve(load: Load, connection: socket.socket, life: _Life) -> None:
    """Never returns. What dies leaves with status 1, and the front door clears its group away."""
    core = VllmCore(load.model, load.arguments, name=load.name, loras=load.loras)
    try:
        await core.start()
    except PorticoError as error:
        connection.sendall(wire.encode(wire.failure(wire.NOBODY, error)))
        os._exit(1)
    life.begins()
    await Hub(core).join(connection)
    while core.healthy and not life.over.is_set():
        try:
            await asyncio.wait_for(life.over.wait(), HEALTH_SECONDS)
        except TimeoutError:
            pass
    if not life.over.is_set():
        os._exit(1)
    await core.close()
    if life.orphaned:
        _clear_away()
    os._exit(0)


def _clear_away() -> None:
    """End what vLLM has left behind, where there is no front door that does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    time.sleep(LINGERING)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
