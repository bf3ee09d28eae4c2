"""The side that has the engine. No policy: who asks first is served first, by the engine's own rules."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import count
from typing import Any, Final, cast

import msgspec

from portico.engines import Engine, FlushesCache, GivesSigns, Perceives, TakesAdapters, TellsCacheUsage
from portico.engines.shared import wire
from portico.errors import EngineDeadError, NotSupportedError, PorticoError
from portico.events import EngineOutput

__all__ = ["Hub", "Member"]

log = logging.getLogger("portico")

HEALTH_SECONDS: Final = 0.25  # between looks at the engine's health


class Hub:
    """Shares a started engine, whose steps it consumes, with every process that is joined."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._members: dict[int, Member] = {}
        self._numbers = count()
        self._said = wire.Health(engine.healthy)
        self.leaving = False
        self._tasks = [asyncio.create_task(self._deal()), asyncio.create_task(self._watch())]

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return sum(member.running for member in self._members.values())

    async def join(self, connection: socket.socket) -> None:
        """Serve the process at the other end of ``connection`` until it is gone."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: _Socket(self), sock=connection)

    def enter(self, write: Callable[[bytes], None], end: Callable[[], None], *, local: bool = False) -> Member:
        """Serve whoever gets what ``write`` takes, until ``Member.leave``. ``end`` ends its connection. Who is
        ``local`` may name directories of this machine."""
        self._tell()
        number = next(self._numbers)
        member = self._members[number] = Member(self, number, write, end, local)
        member.send(self._said)
        member.send(wire.facts(self.engine.info, isinstance(self.engine, FlushesCache)))
        return member

    def forget(self, number: int) -> None:
        """That member has left."""
        self._members.pop(number, None)

    def drain(self) -> None:
        """Tell every process that the engine is leaving: no request is taken any more, those that run may end."""
        self.leaving = True
        self._tell()

    async def close(self) -> None:
        """Part from every process; the engine is the caller's."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for member in list(self._members.values()):
            member.end()

    async def _deal(self) -> None:
        """Every step's outputs to the processes whose requests they are of."""
        async for outputs in self.engine.steps():
            shares: dict[int, list[EngineOutput]] = {}
            for output in outputs:
                member, _, output.request_id = output.request_id.partition(":")
                shares.setdefault(int(member), []).append(output)
            for number, share in shares.items():
                if (found := self._members.get(number)) is not None:
                    found.step(share)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            self._tell()

    def _tell(self) -> None:
        now = wire.Health(self.engine.healthy and not self.leaving, self.leaving)
        if now != self._said:
            self._said = now
            for member in self._members.values():
                member.send(now)


class Member:
    """One process. When it leaves, its requests are aborted."""

    def __init__(
        self, hub: Hub, number: int, write: Callable[[bytes], None], end: Callable[[], None], local: bool
    ) -> None:
        self._hub = hub
        self._local = local
        self._engine = hub.engine
        self._number = number
        self._write = write
        self.end = end
        self._frames = wire.FrameReader()
        self._running: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def running(self) -> int:
        """Its requests that are being answered."""
        return len(self._running)

    def leave(self) -> None:
        """It is gone."""
        self._hub.forget(self._number)
        for task in self._tasks.values():
            task.cancel()
        for number in self._running:
            self._engine.abort(self._id(number))
        self._running.clear()

    def receive(self, data: bytes) -> None:
        """The next bytes of its frames. Raises ``msgspec.MsgspecError`` for what is none."""
        for frame in self._frames.feed(data):
            message = wire.to_hub.decode(frame)
            if isinstance(message, wire.Ping):
                self._start(wire.NOBODY, self._live())
                continue
            number = message.number
            if isinstance(message, wire.Submit):
                self._start(number, self._submit(message))
            elif isinstance(message, wire.Embed):
                self._start(number, self._embed(message))
            elif isinstance(message, wire.Expand):
                self._start(number, self._expand(message))
            elif isinstance(message, wire.FlushCache):
                self._start(number, self._flush(message))
            elif isinstance(message, wire.Adapt):
                self._start(number, self._adapt(message))
            elif (task := self._tasks.get(number)) is not None:
                task.cancel()
            else:
                self._running.discard(number)
                self._engine.abort(self._id(number))

    def send(self, message: wire.FromHub) -> None:
        """Send a frame; lost if the process is gone."""
        self._write(wire.encode(message))

    def step(self, outputs: list[EngineOutput]) -> None:
        """Send a step's outputs."""
        for output in outputs:
            if output.finish_reason is not None:
                self._running.discard(int(output.request_id))
        self.send(wire.step(outputs))

    def _id(self, number: int) -> str:
        return f"{self._number}:{number}"

    def _start(self, number: int, work: Coroutine[Any, Any, wire.Done | wire.Pong]) -> None:
        task = self._tasks[number] = asyncio.create_task(self._answer(number, work))
        task.add_done_callback(lambda _: work.close())  # where it was cancelled before it began

    async def _answer(self, number: int, work: Coroutine[Any, Any, wire.Done | wire.Pong]) -> None:
        try:
            self.send(await work)
        except PorticoError as error:
            self.send(wire.failure(number, error))
        except Exception:
            log.exception("a shared engine failed on a request")
            self.send(wire.failure(number, PorticoError("The engine failed on this request.")))
        finally:
            self._tasks.pop(number, None)

    async def _live(self) -> wire.Pong:
        if isinstance(self._engine, GivesSigns):
            with suppress(Exception):  # that it failed is a sign of life too
                await self._engine.give_sign()
        return wire.Pong(self._engine.cache_usage if isinstance(self._engine, TellsCacheUsage) else None)

    async def _submit(self, message: wire.Submit) -> wire.Done:
        if self._hub.leaving:
            raise EngineDeadError("The engine is leaving, and takes no more requests.", retry_after=1)
        await self._engine.submit(msgspec.structs.replace(message.request, request_id=self._id(message.number)))
        self._running.add(message.number)
        return wire.Done(message.number)

    async def _embed(self, message: wire.Embed) -> wire.Done:
        batch = await self._engine.embed(message.inputs)
        return wire.Done(message.number, batch.vectors.tobytes(), list(batch.prompt_tokens))

    async def _expand(self, message: wire.Expand) -> wire.Done:
        if not isinstance(self._engine, Perceives):
            raise NotSupportedError("This engine perceives no media.")
        return wire.Done(message.number, tokens=await self._engine.expand(message.media))

    async def _flush(self, message: wire.FlushCache) -> wire.Done:
        flushed = isinstance(self._engine, FlushesCache) and await self._engine.flush_cache()
        return wire.Done(message.number, flushed=flushed)

    async def _adapt(self, message: wire.Adapt) -> wire.Done:
        if not isinstance(self._engine, TakesAdapters) or not self._local:
            raise NotSupportedError("This engine takes no adapters while it runs.", param="lora_name")
        await self._engine.adapt(message.name, message.path)
        return wire.Done(message.number)


class _Socket(asyncio.Protocol):
    """A process of this machine, at the other end of a socket."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._member = self._hub.enter(self._write, self._transport.close, local=True)

    def connection_lost(self, error: Exception | None) -> None:
        self._member.leave()

    def data_received(self, data: bytes) -> None:
        self._member.receive(data)

    def _write(self, frame: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame)
