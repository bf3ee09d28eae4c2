"""A process that has an engine, seen from the front door: started, waited for, ended. No policy.

It is a fresh interpreter, not a fork, so nothing of the server's threads or sockets leaks into it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import Any, Final

__all__ = ["EngineProcess"]

REAPING: Final = 1.0  # seconds that a killed process gets to be gone; one that a driver holds may take for ever


class EngineProcess:
    """One child process that serves its engine on a socket (``shared``). ``gone`` completes when it has ended and is
    reaped, with a sentence that says how. ``goodbye`` seconds it gets to leave once it has been told."""

    title = "the engine process"
    goodbye = 2.0

    def __init__(self) -> None:
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._reason: str | None = None  # why it was killed
        self._leaving = False

    async def start(self, connection: socket.socket) -> int:
        """Start the process, which serves on ``connection`` (closed here); its number."""
        with connection:
            self._process = await self._spawn(connection)
        self._watcher = asyncio.create_task(self._watch(self._process))
        return self._process.pid

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def kill(self, reason: str) -> None:
        """End it at once; ``reason`` completes the sentence '<title> …'."""
        if self._process is not None and self._process.returncode is None:
            self._reason = reason
            self._process.kill()

    async def close(self) -> None:
        """End the process and wait until it is reaped. Its socket has been closed. Idempotent."""
        if self._process is None or self._watcher is None or self._watcher.done():
            return
        if not self._leaving:
            self._leaving = True
            self._take_leave(self._process)
        await asyncio.wait((self._watcher,), timeout=self.goodbye)
        self.kill("did not leave")
        await asyncio.wait((self._watcher,), timeout=REAPING)

    # -- for each kind of engine --------------------------------------------------------------------------------------

    async def _spawn(self, connection: socket.socket) -> asyncio.subprocess.Process:
        """Start it, by ``_start_module``."""
        raise NotImplementedError

    def _take_leave(self, process: asyncio.subprocess.Process) -> None:
        """Tell it to leave, if the end of its socket does not."""

    async def _last_words(self, process: asyncio.subprocess.Process) -> str:
        """Read what it says beside, to the end; what is worth telling of it."""
        return ""

    async def _clear_away(self, process: asyncio.subprocess.Process) -> None:
        """End what it has left behind."""

    # -----------------------------------------------------------------------------------------------------------------

    async def _start_module(
        self, module: str, *arguments: str, connection: socket.socket, environment: dict[str, str], **options: Any
    ) -> asyncio.subprocess.Process:
        number = connection.fileno()
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", module, str(number), *arguments),
            pass_fds=(number,),
            env={**os.environ, "PYTHONSAFEPATH": "1", **environment},  # modules in the user's directory are not ours
            **options,
        )

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        words = await self._last_words(process)
        code = await process.wait()
        await self._clear_away(process)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if not self.gone.done():  # whoever waited for it may have left
            self.gone.set_result(f"{self.title} {self._reason or how}" + (f": {words}" if words else ""))
