"""The side that has the engine. No policy: who asks first is served first, by the engine's own rules."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from contextlib import suppress
from itertools import count
from typing import Any, Final, cast

import msgspec

from portico.engines import Engine, FlushesCache, GivesSigns, Perceives
from portico.engines.shared import wire
from portico.errors import NotSupportedError, PorticoError
from portico.events import EngineOutput

__all__ = ["Hub"]

log = logging.getLogger("portico")

HEALTH_SECONDS: Final = 0.25  # between looks at the engine's health


class Hub:
    """Shares a started engine, whose steps it consumes, with every process that is joined."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._members: dict[int, _Member] = {}
        self._numbers = count()
        self._tasks = [asyncio.create_task(self._deal()), asyncio.create_task(self._watch())]

    async def join(self, connection: socket.socket) -> None:
        """Serve the process at the other end of ``connection`` until it is gone."""
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        _, member = await loop.create_unix_connection(
            lambda: _Member(number, self._engine, self._members), sock=connection
        )
        self._members[number] = member

    async def close(self) -> None:
        """Part from every process; the engine is the caller's."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for member in list(self._members.values()):
            member.close()

    async def _deal(self) -> None:
        """Every step's outputs to the processes whose requests they are of."""
        async for outputs in self._engine.steps():
            shares: dict[int, list[EngineOutput]] = {}
            for output in outputs:
                member, _, output.request_id = output.request_id.partition(":")
                shares.setdefault(int(member), []).append(output)
            for number, share in shares.items():
                if (found := self._members.get(number)) is not None:
                    found.step(share)

    async def _watch(self) -> None:
        healthy = self._engine.healthy
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            if self._engine.healthy != healthy:
                healthy = self._engine.healthy
                for member in self._members.values():
                    member.send(wire.Health(healthy))


class _Member(asyncio.Protocol):
    """One process. When its connection ends, its requests are aborted."""

    def __init__(self, number: int, engine: Engine, members: dict[int, _Member]) -> None:
        self._number = number
        self._engine = engine
        self._members = members
        self._frames = wire.FrameReader()
        self._running: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.send(wire.Health(self._engine.healthy))
        self.send(wire.facts(self._engine.info, isinstance(self._engine, FlushesCache)))

    def connection_lost(self, error: Exception | None) -> None:
        self._members.pop(self._number, None)
        for task in self._tasks.values():
            task.cancel()
        for number in self._running:
            self._engine.abort(self._id(number))
        self._running.clear()

    def data_received(self, data: bytes) -> None:
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
            elif (task := self._tasks.get(number)) is not None:
                task.cancel()
            else:
                self._running.discard(number)
                self._engine.abort(self._id(number))

    def send(self, message: wire.FromHub) -> None:
        """Send a frame; lost if the process is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(wire.encode(message))

    def step(self, outputs: list[EngineOutput]) -> None:
        """Send a step's outputs."""
        for output in outputs:
            if output.finish_reason is not None:
                self._running.discard(int(output.request_id))
        self.send(wire.Step(outputs))

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def _id(self, number: int) -> str:
        return f"{self._number}:{number}"

    def _start(self, number: int, work: Coroutine[Any, Any, wire.Done | wire.Pong]) -> None:
        self._tasks[number] = asyncio.create_task(self._answer(number, work))

    async def _answer(self, number: int, work: Coroutine[Any, Any, wire.Done | wire.Pong]) -> None:
        try:
            self.send(await work)
        except PorticoError as error:
            self.send(wire.failure(number, error))
        except Exception:
            log.exception("a shared engine failed on a request")
            self.send(wire.failure(number, PorticoError("The engine failed on this request.")))
        finally:
            del self._tasks[number]

    async def _live(self) -> wire.Pong:
        if isinstance(self._engine, GivesSigns):
            with suppress(Exception):  # that it failed is a sign of life too
                await self._engine.give_sign()
        return wire.Pong()

    async def _submit(self, message: wire.Submit) -> wire.Done:
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
