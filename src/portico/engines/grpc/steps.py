"""A host that ``portico engine`` serves: one stream of frames for all requests, a frame for each step of its engine.

The stream is open as long as the host is there. It is asked for a sign of life whenever one is looked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
import msgspec

from portico.engines import EmbeddingBatch, EngineInfo
from portico.engines.grpc.host import CHECK_DEADLINE, CHECK_SECONDS, SILENCE_SECONDS, Host
from portico.engines.shared import Asking, Outgoing, wire
from portico.events import EngineOutput, EngineRequest, Media
from portico.protos import engine_pb2 as pb
from portico.protos.engine_pb2_grpc import EngineStub

__all__ = ["StepHost"]

UNANSWERED: Final = CHECK_DEADLINE / CHECK_SECONDS  # looks without a word after which it gets no requests
SILENT: Final = SILENCE_SECONDS / CHECK_SECONDS  # the same after which it is gone


class StepHost(Host):
    """A host with one stream."""

    embeds_together = 64
    _link: _Link | None = None

    def _new_stub(self) -> Any:
        return EngineStub(self._channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """End the stream, then the connection."""
        await super().close()
        if self._link is not None:
            self._link.close("it was closed here")

    async def _check(self) -> str:
        link = self._link
        if link is None or link.over:
            return await self._connect()
        quiet = link.quiet_looks()
        if quiet > SILENT:
            link.close("it has fallen silent")
            await self._open_anew()
        self.leaving = link.leaving
        if self.leaving:
            return "it says that it is leaving"
        if quiet > UNANSWERED:
            return "it does not answer"
        return "" if link.says_healthy else "it says that it is not healthy"

    async def _connect(self) -> str:
        metadata = (*self.metadata, (wire.VERSION_NAME, str(wire.VERSION)))
        link = self._link = _Link(self.stub.Steps(metadata=metadata), self.deliver, self._look.set)
        try:
            async with asyncio.timeout(CHECK_DEADLINE):
                info = await link.facts()
        except TimeoutError:
            info = None
            link.close("it does not answer")
        except asyncio.CancelledError:
            link.close("it was closed here")
            raise
        if info is None:
            return link.trouble
        if trouble := self._meet(info):
            link.close(trouble)
        return trouble or await self._check()

    @property
    def cache_usage(self) -> float | None:
        """As of its last sign of life."""
        return self._link.cache_usage if self._link is not None and not self._link.over else None

    # -- what it is asked ---------------------------------------------------------------------------------------------

    @property
    def _asked(self) -> _Link:
        assert self._link is not None  # a host that has never been healthy is not asked
        return self._link

    async def submit(self, request: EngineRequest) -> None:
        """One more frame."""
        await self._asked.submit(request)

    def abort(self, request_id: str) -> None:
        """One more frame, if it has the request."""
        self._asked.abort(request_id)

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """One question."""
        return await self._asked.embed(token_id_lists)

    async def expand(self, media: Media) -> list[int]:
        """One question."""
        return await self._asked.expand(media)

    async def flush_cache(self) -> bool:
        """Whether its engine has."""
        return await self._asked.flush_cache()


class _Link(Asking):
    """One life of the stream. ``give`` gets the steps; ``look`` is called when the host's health may have turned."""

    def __init__(self, call: Any, give: Callable[[list[EngineOutput]], None], look: Callable[[], None]) -> None:
        super().__init__()
        self.over = False
        self._call = call
        self._handed_on, self._look = give, look
        self._quiet = 0  # looks since something was heard
        self._outgoing = Outgoing()
        self._pump = asyncio.create_task(self._outgoing.pump(self._carry))
        self._pump.add_done_callback(lambda task: task.cancelled() or task.exception())  # who reads is told too
        self._reading = asyncio.create_task(self._read())

    @property
    def says_healthy(self) -> bool:
        """What it said last."""
        return self._says_healthy

    async def facts(self) -> EngineInfo | None:
        """What the engine is, when it has said so; None where it ends before."""
        await self._known.wait()
        return self._info if not self.over else None

    def quiet_looks(self) -> int:
        """How often it has been looked at since it was heard. Asks for a sign of life. Counted in looks, so that time
        in which this process itself was stopped does not count."""
        self._quiet = 0 if self._spoke else self._quiet + 1
        self._spoke = False
        self._send(wire.Ping())
        return self._quiet

    def close(self, how: str) -> None:
        """End the stream; what is in flight is lost. ``how`` ends a sentence."""
        if not self.over:
            self.over = True
            self.trouble = how
            self._call.cancel()
            self._pump.cancel()
            self._known.set()
            self._end("lost", f"The engine stopped: {how}.")
            self._look()

    async def _read(self) -> None:
        how = "it has ended the connection"
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                self._receive(message.data)
        except grpc.aio.AioRpcError as error:
            how = f"it does not answer ({error.code().name}: {(error.details() or '')[:200]})"
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                how = "it serves no engine: portico:// is for 'portico engine'"
        except (msgspec.MsgspecError, ValueError):
            how = "what it says cannot be read: is it of another version?"
        except asyncio.CancelledError:
            pass
        self.close(how)

    async def _carry(self, frames: bytes) -> None:
        await self._call.write(pb.Frames(data=frames))

    def _reachable(self) -> bool:
        return not self.over

    def _write(self, frame: bytes) -> None:
        if not self.over:
            self._outgoing.put(frame)

    def _give(self, outputs: list[EngineOutput]) -> None:
        self._handed_on(outputs)

    def _turned(self) -> None:
        self._look()
