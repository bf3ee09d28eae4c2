"""The ``Engine`` whose work another process of this machine does: every method is a frame to it, or made from one.

The other process is asked for signs of life, which it gives between its steps; one that gives none, and does nothing
(``silence``), is taken for dead until it speaks again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import cast

from portico.engines.shared import wire
from portico.engines.shared.asking import Asking
from portico.engines.silence import LOOKS, Silence, processor_seconds
from portico.errors import EngineError
from portico.events import EngineOutput

__all__ = ["SharedEngine"]

log = logging.getLogger("portico")


class SharedEngine(Asking, asyncio.Protocol):
    """``connection`` leads to a hub, whose process is ``leader``, or of the session that it leads.

    When that neither says nor does anything for ``silence`` seconds it is hung: what is in flight ends, the engine is
    not healthy until something is heard again, and ``hung`` is told how it was found. ``gone`` completes when the
    process has ended, with a sentence that says how.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        leader: int,
        silence: float,
        hung: Callable[[str], None] = lambda reason: None,
        gone: asyncio.Future[str] | None = None,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._leader, self._silence, self._hung = leader, silence, hung
        self._gone = gone
        self._closed = False
        self._parted = False  # the hub has gone
        self._silent = False  # the hub is there, and hung
        self._watcher: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._outputs: list[list[EngineOutput]] = []
        self._stepped = asyncio.Event()

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether the shared engine can take requests."""
        return self._says_healthy and not self._silent

    async def start(self) -> None:
        """Learn what the engine is. Raises what it cannot start for, or ``EngineError`` when the hub is gone."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=self._connection)
        await self._known.wait()
        if self._info is None:
            raise self._refusal or EngineError(f"The engine cannot start: {self.trouble}.")
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Part from the hub, which aborts what is in flight. Idempotent."""
        if not self._closed:
            self._closed = True
            self._end("abort", None)
            self._stepped.set()
            if self._watcher is not None:
                self._watcher.cancel()
            if self._transport is not None:
                self._transport.abort()

    # -- frames and steps ---------------------------------------------------------------------------------------------

    def _reachable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and not self._silent

    def _write(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def _give(self, outputs: list[EngineOutput]) -> None:
        self._outputs.append(outputs)
        self._stepped.set()

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """The engine's steps, with the outputs of this process's requests. Ends when the hub has gone, or after
        ``close()``. One consumer."""
        while True:
            while self._outputs:
                steps, self._outputs = self._outputs, []
                for outputs in steps:
                    yield outputs
            if self._closed or self._parted:
                return
            self._stepped.clear()
            await self._stepped.wait()

    async def adapt(self, name: str, path: str | None) -> None:
        """Have the shared engine load or unload an adapter."""
        number = next(self._numbers)
        await self._ask(number, wire.Adapt(number, name, path))

    # -- whether the hub is alive -------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        silence, seconds = Silence(self._silence), self._silence / LOOKS
        while not self._parted:
            if self._spoke and not self._silent:
                self._spoke = False
                self._send(wire.Ping())
            await asyncio.sleep(seconds)
            used = None if self._spoke else await asyncio.to_thread(processor_seconds, self._leader)
            if silence.look(seconds, self._spoke, used) and not self._silent:
                self._silent = True
                self.trouble = f"it has neither said nor done anything for {self._silence:g} seconds"
                log.error("the engine is hung: %s", self.trouble)
                for number in self._ids:
                    self._send(wire.Abort(number))  # should it wake up
                self._end("lost", f"The engine stopped: {self.trouble}.")
                self._hung("was hung")

    # -- the connection -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._says_healthy = False
        if self._gone is None:
            self._part("the process that has it is gone")
        else:
            self._gone.add_done_callback(lambda gone: self._part("it is closed" if gone.cancelled() else gone.result()))

    def _part(self, how: str) -> None:
        self._parted = True
        self.trouble = self._refusal.message.removesuffix(".") if self._refusal is not None else how
        self._known.set()
        if not self._closed:
            self._end("lost", f"The engine stopped: {self.trouble}.")
        self._stepped.set()

    def data_received(self, data: bytes) -> None:
        self._receive(data)
        if self._spoke:
            self._silent = False
