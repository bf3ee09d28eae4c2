"""The side of the frames that uses the engine, whatever carries them: its questions, and what becomes of the steps."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import count

import msgspec

from portico.engines import Described, EmbeddingBatch, EngineInfo
from portico.engines.shared import wire
from portico.errors import BadRequestError, EngineDeadError, EngineLostError, PorticoError
from portico.events import EngineOutput, EngineRequest, FinishReason, Media

__all__ = ["Asking"]


class Asking(Described, ABC):
    """Numbers requests, gives outputs their ids back. Of who inherits it: how frames are sent and steps handed on."""

    def __init__(self) -> None:
        self._known = asyncio.Event()  # what the engine is, or why there is none
        self._refusal: PorticoError | None = None  # why there is none
        self.trouble = ""  # a sentence's end: why nothing is served
        self._says_healthy = False
        self.leaving = False  # it is there, and takes no more requests
        self._flushes = False
        self.cache_usage: float | None = None  # as of its last sign of life
        self._spoke = False  # since somebody looked
        self._frames = wire.FrameReader()
        self._numbers = count(1)
        self._numbers_by_id: dict[str, int] = {}
        self._ids: dict[int, str] = {}  # number -> request id
        self._answers: dict[int, asyncio.Future[wire.Done]] = {}

    @abstractmethod
    def _reachable(self) -> bool:
        """Whether there is somebody to ask."""

    @abstractmethod
    def _write(self, frame: bytes) -> None:
        """Send a frame, to whoever is still there."""

    @abstractmethod
    def _give(self, outputs: list[EngineOutput]) -> None:
        """A step's outputs, under the ids of their requests."""

    def _turned(self) -> None:
        """The engine's health, or whether it is leaving, is another."""

    # -- questions ----------------------------------------------------------------------------------------------------

    async def submit(self, request: EngineRequest) -> None:
        """Hand the request over; raises what the engine raises."""
        if request.request_id in self._numbers_by_id:
            raise BadRequestError("A request with this id is already running.", param="request_id")
        number = next(self._numbers)
        self._ids[number], self._numbers_by_id[request.request_id] = request.request_id, number
        ids, generated = list(request.token_ids), list(request.generated)
        sent = msgspec.structs.replace(request, request_id="", token_ids=ids, generated=generated)
        try:
            await self._ask(number, wire.Submit(number, sent))
        except BaseException:
            self._forget(number)
            raise

    def abort(self, request_id: str) -> None:
        """Stop a request; unknown ids are ignored. No output for it follows."""
        number = self._numbers_by_id.get(request_id)
        if number is not None:
            self._forget(number)
            self._send(wire.Abort(number))

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Embed on the engine. Raises what it raises."""
        number = next(self._numbers)
        done = await self._ask(number, wire.Embed(number, [list(ids) for ids in token_id_lists]))
        import numpy as np  # ten megabytes: only where there are vectors

        vectors = np.frombuffer(done.vectors, dtype=np.float32).reshape(len(token_id_lists), -1)
        return EmbeddingBatch(vectors, done.tokens)

    async def expand(self, media: Media) -> list[int]:
        """The prompt as the engine will compute it."""
        number = next(self._numbers)
        sent = msgspec.structs.replace(media, token_ids=list(media.token_ids))
        return (await self._ask(number, wire.Expand(number, sent))).tokens

    async def flush_cache(self) -> bool:
        """Whether the engine has forgotten its cached prefixes."""
        if not self._flushes:
            return False
        number = next(self._numbers)
        return (await self._ask(number, wire.FlushCache(number))).flushed

    async def _ask(self, number: int, message: wire.ToHub) -> wire.Done:
        if not self._reachable():
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
        self._write(wire.encode(message))

    def _forget(self, number: int) -> None:
        request_id = self._ids.pop(number, None)
        if request_id is not None:
            del self._numbers_by_id[request_id]

    def _dead(self) -> EngineDeadError:
        told = f": {self.trouble}" if self.trouble else ""
        return EngineDeadError(f"The engine is not available{told}.", retry_after=1)

    # -- what the hub says --------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        """The next bytes of its frames."""
        for frame in self._frames.feed(data):
            message = wire.from_hub.decode(frame)
            if isinstance(message, wire.Step):
                self._spoke = True
                self._step(message)
            elif isinstance(message, wire.Pong):
                self._spoke, self.cache_usage = True, message.cache_usage
            elif isinstance(message, wire.Health):
                self._says_healthy, self.leaving = message.healthy, message.leaving
                self._turned()
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

    def _step(self, step: wire.Step) -> None:
        ids = self._ids
        wanted = [
            EngineOutput(ids[number], [token])
            for number, token in zip(step.numbers, step.tokens, strict=False)
            if number in ids  # others were aborted
        ]
        for output in step.outputs:
            number = int(output.request_id)
            request_id = ids.get(number)
            if request_id is None:
                continue
            if output.finish_reason is not None:
                self._forget(number)
            output.request_id = request_id
            wanted.append(output)
        if wanted:
            self._give(wanted)

    def _end(self, reason: FinishReason, error: str | None) -> None:
        """End what waits for an answer, and what is in flight."""
        asked = {number for number, answer in self._answers.items() if not answer.done()}
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
            self._give(ended)
