"""The process that has vLLM, seen from the front door; it is ended with all that it has started."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Final

import msgspec

from portico.engines.process import EngineProcess

__all__ = ["GOODBYE", "Load", "VllmProcess", "lives"]

STDERR: Final = 2
GOODBYE: Final = 2.5  # seconds that vLLM gets to leave
LEAVING: Final = 0.7  # seconds that what it has left behind gets to leave, asked and then killed
LOOK: Final = 0.05  # seconds
REMAINS: Final = "ZX"  # letters of /proc/PID/stat


class Load(msgspec.Struct):
    """What the process is to load: see ``VllmCore``."""

    model: str
    name: str
    arguments: list[str]
    loras: dict[str, str] | None


class VllmProcess(EngineProcess):
    """Leaves at the end of its standard input. It is gone when its whole group is."""

    title = "the process of vLLM"
    goodbye = GOODBYE

    def __init__(self, load: Load) -> None:
        super().__init__()
        self._load = load

    async def _spawn(self, connection: socket.socket) -> asyncio.subprocess.Process:
        process = await self._start_module(
            "portico.engines.vllm.child",
            connection=connection,
            environment={},
            stdin=asyncio.subprocess.PIPE,  # what to load; then open for as long as the process is wanted
            stdout=STDERR,  # vLLM's log; on standard output the server says what it serves
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(self._load) + b"\n")
        return process

    def _take_leave(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        process.stdin.write(b"\n")  # a word of goodbye: what it leaves behind is seen to here
        process.stdin.close()

    async def _clear_away(self, process: asyncio.subprocess.Process) -> None:
        """Asked first, so that Python's resource tracker, which does not mind being asked, can give shared memory back
        when the last of them is gone."""
        for end in (signal.SIGTERM, signal.SIGKILL):
            waited = 0.0
            while waited < LEAVING:
                try:
                    os.killpg(process.pid, end if not waited else 0)
                except ProcessLookupError:
                    return
                await asyncio.sleep(LOOK)
                waited += LOOK
                if not await asyncio.to_thread(lives, process.pid):
                    return


def lives(group: int) -> bool:
    """Whether one of its processes is more than what remains of it until it is reaped, which in a container may be
    never. True where the system does not tell."""
    known = False
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its, *_ = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, ValueError):
            continue  # it has ended
        if int(its) == group:
            if state not in REMAINS:
                return True
            known = True
    return not known
