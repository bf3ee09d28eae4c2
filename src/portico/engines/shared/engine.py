"""The ``Engine`` whose work another process does: every method is a frame to it, or made from one.

The other process is asked for signs of life, which it gives between its steps; one that gives none, and does nothing
(``silence``), is taken for dead until it speaks again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from typing import cast

import msgspec
import numpy as np

from portico.engines import Described, EmbeddingBatch, EngineInfo
from portico.engines.shared import wire
from portico.engines.silence import LOOKS, Silence, processor_seconds
from portico.errors import BadRequestError, EngineDeadError, EngineError, EngineLostError, PorticoError
from portico.events import EngineOutput, EngineRequest, FinishReason, Media

__all__ = ["SharedEngine"]

log = logging.getLogger("portico")


class SharedEngine(Described, asyncio.Protocol):
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
        self._connection = connection
        self._leader, self._silence, self._hung = leader, silence, hung
        self._gone = gone
        self._known = asyncio.Event()
        self._healthy = False
        self._closed = False
        self._parted = False  # the hub has gone
        self._silent = False  # the hub is there, and hung
        self._spoke = False  # since somebody looked
        self._watcher: asyncio.Task[None] | None = None
        self._refusal: PorticoError | None = None  # why there is no engine
        self.trouble = ""  # a sentence's end: why nothing is served
        self._flushes = False
        self._frames = wire.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._numbers = count(1)
        self._numbers_by_id: dict[str, int] = {}
        self._ids: dict[str, str] = {}  # number, as text, -> request id
        self._answers: dict[int, asyncio.Future[wire.Done]] = {}
        self._outputs: list[list[EngineOutput]] = []
        self._stepped = asyncio.Event()

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether the shared engine can take requests."""
        return self._healthy and not self._silent

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
            if self._watcher is not None:
                self._watcher.cancel()
            if self._transport is not None:
                self._transport.abort()

    # -- requests -----------------------------------------------------------------------------------------------------

    async def submit(self, request: EngineRequest) -> None:
        """Hand the request over; raises what the engine raises."""
        if request.request_id in self._numbers_by_id:
            raise BadRequestError("A request with this id is already running.", param="request_id")
        number = next(self._numbers)
        self._ids[str(number)], self._numbers_by_id[request.request_id] = request.request_id, number
        ids, generated = list(request.token_ids), list(request.generated)
        sent = msgspec.structs.replace(request, request_id="", token_ids=ids, generated=generated)
        try:
            await self._ask(number, wire.Submit(number, sent))
        except BaseException:
            self._forget(str(number))
            raise

    def abort(self, request_id: str) -> None:
        """Stop a request; unknown ids are ignored. No output for it follows."""
        number = self._numbers_by_id.get(request_id)
        if number is not None:
            self._forget(str(number))
            self._send(wire.Abort(number))

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

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Embed on the shared engine."""
        number = next(self._numbers)
        done = await self._ask(number, wire.Embed(number, [list(ids) for ids in token_id_lists]))
        vectors = np.frombuffer(done.vectors, dtype=np.float32).reshape(len(token_id_lists), -1)
        return EmbeddingBatch(vectors, done.tokens)

    async def expand(self, media: Media) -> list[int]:
        """The prompt as the shared engine will compute it."""
        number = next(self._numbers)
        sent = msgspec.structs.replace(media, token_ids=list(media.token_ids))
        return (await self._ask(number, wire.Expand(number, sent))).tokens

    async def flush_cache(self) -> bool:
        """Whether the shared engine has forgotten its cached prefixes."""
        if not self._flushes:
            return False
        number = next(self._numbers)
        return (await self._ask(number, wire.FlushCache(number))).flushed

    async def _ask(self, number: int, message: wire.ToHub) -> wire.Done:
        if self._transport is None or self._transport.is_closing() or self._silent:
            raise self._dead()
        answer: asyncio.Future[wire.Done] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._send(message)
        try:
            return await answer
        except asyncio.CancelledError:
            self._send(wire.Abort(number))
            raise
        finally:
            del self._answers[number]

    def _send(self, message: wire.ToHub) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire.encode(message))

    def _forget(self, number: str) -> None:
        request_id = self._ids.pop(number, None)
        if request_id is not None:
            del self._numbers_by_id[request_id]

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
                    self._send(wire.Abort(int(number)))  # should it wake up
                self._end("lost", f"The engine stopped: {self.trouble}.")
                self._hung("was hung")

    def _dead(self) -> EngineDeadError:
        told = f": {self.trouble}" if self.trouble else ""
        return EngineDeadError(f"The engine is not available{told}.", retry_after=1)

    # -- what the hub says --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._healthy = False
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

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            message = wire.from_hub.decode(frame)
            if isinstance(message, wire.Step):
                self._spoke = True
                self._step(message.outputs)
            elif isinstance(message, wire.Pong):
                self._spoke, self._silent = True, False
            elif isinstance(message, wire.Health):
                self._healthy = message.healthy
            elif isinstance(message, wire.Facts):
                self._info = msgspec.convert(message.info, EngineInfo)
                self._flushes = message.flushes
                self._spoke = True
                self._known.set()
            elif isinstance(message, wire.Failed) and message.number == wire.NOBODY:
                self._refusal = wire.error_of(message)
            elif (answer := self._answers.get(message.number)) is not None and not answer.done():
                if isinstance(message, wire.Done):
                    answer.set_result(message)
                else:
                    answer.set_exception(wire.error_of(message))

    def _step(self, outputs: list[EngineOutput]) -> None:
        wanted = []
        for output in outputs:
            request_id = self._ids.get(output.request_id)
            if request_id is None:
                continue
            if output.finish_reason is not None:
                self._forget(output.request_id)
            output.request_id = request_id
            wanted.append(output)
        if wanted:
            self._outputs.append(wanted)
            self._stepped.set()

    def _end(self, reason: FinishReason, error: str | None) -> None:
        """End what waits for an answer, and what is in flight."""
        asked = {str(number) for number, answer in self._answers.items() if not answer.done()}
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._dead() if error is None else EngineLostError(error, retry_after=1))
        ended = [
            EngineOutput(request_id, (), finish_reason=reason, error=error)
            for number, request_id in self._ids.items()
            if number not in asked
        ]
        self._ids.clear()
        self._numbers_by_id.clear()
        if ended:
            self._outputs.append(ended)
        self._stepped.set()
