"""A host that ``portico engine`` serves: one stream of frames for all requests, a frame for each step of its engine.

The stream is open as long as the host is there. It is asked for a sign of life whenever one is looked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from portico.engines import EmbeddingBatch, EngineInfo
from portico.engines.grpc.host import CHECK_DEADLINE, CHECK_SECONDS, SILENCE_SECONDS, Host, parsed
from portico.engines.grpc.http2 import Call, RpcError
from portico.engines.shared import Asking, wire
from portico.events import EngineOutput, EngineRequest, Media
from portico.protos import engine_pb2 as pb

__all__ = ["StepHost"]

UNANSWERED: Final = CHECK_DEADLINE / CHECK_SECONDS  # looks without a word after which it gets no requests
SILENT: Final = SILENCE_SECONDS / CHECK_SECONDS  # the same after which it is gone


class StepHost(Host):
    """A host with one stream."""

    service = pb.DESCRIPTOR.services_by_name["Engine"].full_name
    embeds_together = 64
    _link: _Link | None = None

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
            self._channel.drop("it has fallen silent")
        self.leaving = link.leaving
        if self.leaving:
            return "it says that it is leaving"
        if quiet > UNANSWERED:
            return "it does not answer"
        return "" if link.says_healthy else "it says that it is not healthy"

    async def _connect(self) -> str:
        link = self._link = _Link(self.deliver, self._look.set)
        version = (wire.VERSION_NAME, str(wire.VERSION))
        try:
            async with asyncio.timeout(CHECK_DEADLINE):
                await self._channel.begin(link.stream, f"/{self.service}/Steps", fields=[version], ends=False)
                info = await link.facts()
        except RpcError:
            link.close("it was never reached")
            raise
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

    def __init__(self, give: Callable[[list[EngineOutput]], None], look: Callable[[], None]) -> None:
        super().__init__()
        self.over = False
        self.stream = _Stream(self)
        self._handed_on, self._look = give, look
        self._quiet = 0  # looks since something was heard

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
            self.stream.cancel()
            self._known.set()
            self._end("lost", f"The engine stopped: {how}.")
            self._look()

    def receive(self, message: bytes) -> None:
        """The next message of the stream."""
        try:
            self._receive(parsed(pb.Frames, message).data)
        except (RpcError, msgspec.MsgspecError, ValueError):
            self.close("what it says cannot be read: is it of another version?")

    def ended(self, error: RpcError | None) -> None:
        """The stream has ended."""
        if error is None:
            self.close("it has ended the connection")
        elif error.code == "UNIMPLEMENTED":
            self.close("it serves no engine: portico:// is for 'portico engine'")
        else:
            self.close(f"it does not answer ({error.code}: {error.details[:200]})")

    def _reachable(self) -> bool:
        return not self.over

    def _write(self, frame: bytes) -> None:
        if not self.over:
            self.stream.send(pb.Frames(data=frame).SerializeToString())

    def _give(self, outputs: list[EngineOutput]) -> None:
        self._handed_on(outputs)

    def _turned(self) -> None:
        self._look()


class _Stream(Call):
    """What carries a link's frames."""

    def __init__(self, link: _Link) -> None:
        self._link = link

    def message(self, data: bytes) -> None:
        self._link.receive(data)

    def over(self, error: RpcError | None) -> None:
        self._link.ended(error)
