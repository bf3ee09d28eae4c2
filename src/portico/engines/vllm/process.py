"""The process that has vLLM, seen from the front door: started, waited for, ended with all that it has started."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import Final

import msgspec

__all__ = ["GOODBYE", "Load", "VllmProcess"]

STDERR: Final = 2
GOODBYE: Final = 10.0  # seconds that vLLM gets to leave
SPARE: Final = 2.0  # seconds beyond, before it is killed
LEAVING: Final = 8.0  # seconds that what it has left behind gets to leave


class Load(msgspec.Struct):
    """What the process is to load: see ``VllmCore``."""

    model: str
    name: str
    arguments: list[str]
    loras: dict[str, str]


class VllmProcess:
    """One child process; ``gone`` completes when it and its whole group have ended, with a sentence that says how."""

    def __init__(self) -> None:
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self, load: Load, connection: socket.socket) -> None:
        """Start the process and let it load; it serves its engine on ``connection``, which is closed here."""
        with connection:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "portico.engines.vllm.child", str(connection.fileno())),
                pass_fds=(connection.fileno(),),
                stdin=asyncio.subprocess.PIPE,  # what to load; then open for as long as the process is wanted
                stdout=STDERR,  # vLLM's log; on standard output the server says what it serves
                start_new_session=True,
                env={**os.environ, "PYTHONSAFEPATH": "1"},  # modules in the user's directory are not ours
            )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(load) + b"\n")
        self._watcher = asyncio.create_task(self._watch(self._process))

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def close(self) -> None:
        """End the process and wait until it is reaped. Idempotent."""
        if self._process is None or self._watcher is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")  # a word of goodbye: what it leaves behind is seen to here
        self._process.stdin.close()  # it leaves at the end of its input
        try:
            await asyncio.wait_for(asyncio.shield(self._watcher), GOODBYE + SPARE)
        except asyncio.TimeoutError:
            self._process.kill()
            await self._watcher

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        await _end_group(process.pid)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if not self.gone.done():  # nobody waits for it any more
            self.gone.set_result(f"the process of vLLM {how}")


async def _end_group(number: int) -> None:
    """End what a process has left behind: asked first, so that Python's resource tracker, which does not mind being
    asked, can give shared memory back when the last of them is gone."""
    for end in (signal.SIGTERM, signal.SIGKILL):
        waited = 0.0
        while waited < LEAVING:
            try:
                os.killpg(number, end if not waited else 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.05)
            waited += 0.05
