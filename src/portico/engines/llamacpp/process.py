"""The engine's process seen from the front door: started, spoken to, and waited for. No policy.

The process is a fresh interpreter, not a fork, so nothing of the server's threads or sockets leaks into it. Its
standard error is read and kept for one purpose: to say why it died.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final, cast

from portico.engines.llamacpp import wire

__all__ = ["EngineProcess"]

_KEPT_STDERR: Final = 4096  # bytes
_GOODBYE: Final = 5.0  # seconds that a process gets to leave after its socket closed

_ENVIRONMENT: Final = {
    "OMP_WAIT_POLICY": "passive",  # OpenMP's spinning starves everything else; must be set before the library loads
    "GGML_NO_BACKTRACE": "1",  # or a failed assertion starts a debugger
    "PYTHONSAFEPATH": "1",  # modules in the user's directory are not ours
}


class EngineProcess(asyncio.Protocol):
    """One child process. ``receive`` is called with every message; ``gone`` completes when the process has ended and
    is reaped, with a sentence that says how."""

    def __init__(self, receive: Callable[[wire.FromEngine], None]) -> None:
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._receive = receive
        self._frames = wire.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._failure: str | None = None
        self._closed = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process and connect to it."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            await loop.create_unix_connection(lambda: self, sock=ours)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "portico.engines.llamacpp.child", str(theirs.fileno()), str(os.getpid())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **_ENVIRONMENT},
            )
        self._watcher = asyncio.create_task(self._watch(self._process))

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def send(self, message: wire.ToEngine) -> None:
        """Send a message; lost if the process is gone, which ``gone`` tells."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire.encode(message))

    async def close(self) -> None:
        """End the process and wait until it is reaped. Idempotent."""
        if self._transport is not None:
            self._transport.abort()  # it leaves at the end of its socket
        if self._watcher is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._watcher), _GOODBYE)
            except asyncio.TimeoutError:
                assert self._process is not None
                self._process.kill()
                await self._watcher

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        tail = b""
        assert process.stderr is not None
        while data := await process.stderr.read(4096):
            tail = (tail + data)[-_KEPT_STDERR:]
        code = await process.wait()
        await self._closed.wait()  # what it said last has been received
        if not self.gone.done():
            self.gone.set_result(self._failure or _obituary(code, tail.decode(errors="replace")))

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not derive from it

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            message = wire.from_engine.decode(frame)
            if isinstance(message, wire.Failed):
                self._failure = message.message
            else:
                self._receive(message)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed.set()


def _obituary(code: int, stderr: str) -> str:
    """How a process ended, with the last line that it wrote."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    return f"the engine process {how}" + (f": {lines[-1]}" if lines else "")
