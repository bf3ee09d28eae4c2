"""``portico.v1.Engine``: the steps of this process's engine, for front doors on other machines.

Each has one stream, which carries the frames that ``engines.shared`` has for processes of one machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc
import msgspec

from portico.engines.shared import Hub, Member, Outgoing, wire
from portico.errors import PorticoError
from portico.prompting import Tokenizer
from portico.protocols.grpc.status import error_metadata, status_name
from portico.protos import engine_pb2 as pb
from portico.protos import smg_common_pb2 as common
from portico.server.grpc.server import Handlers, Service, encode
from portico.server.grpc.tokenizer import TokenizerFiles

__all__ = ["StepsService"]

LOOK: Final = 0.05  # seconds between looks at whether all is done


class StepsService:
    """``portico.v1.Engine`` over a hub."""

    def __init__(self, hub: Hub, tokenizer: Tokenizer) -> None:
        self._hub = hub
        self._tokenizer = tokenizer
        self._files = TokenizerFiles()
        self._streams: set[Outgoing] = set()

    @property
    def service(self) -> Service:
        """What the server is given."""
        name = pb.DESCRIPTOR.services_by_name["Engine"].full_name
        handlers: Handlers = {
            "Steps": grpc.stream_stream_rpc_method_handler(self._steps, pb.Frames.FromString, encode),
            "GetTokenizer": grpc.unary_stream_rpc_method_handler(
                self._files_of, common.GetTokenizerRequest.FromString, encode
            ),
        }
        return Service(name, handlers, self._idle)

    async def _idle(self, grace: float) -> None:
        """Every answer has ended and is on its way, or ``grace`` seconds are over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        while loop.time() < end:
            if not self._hub.running and not any(one.waiting for one in self._streams):
                return
            await asyncio.sleep(LOOK)

    async def _steps(self, messages: AsyncIterator[pb.Frames], context: Any) -> None:
        """One front door, from its coming to its going."""
        theirs = dict(context.invocation_metadata()).get(wire.VERSION_NAME)
        if theirs != str(wire.VERSION):
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"This engine's frames are of version {wire.VERSION}, the front door's of {theirs}: run the same "
                "version of Portico at both ends.",
            )
        outgoing = Outgoing()
        over = asyncio.Event()

        def write(frame: bytes) -> None:
            outgoing.put(frame)
            if outgoing.stalled:
                over.set()

        member = self._hub.enter(write, over.set)
        self._streams.add(outgoing)
        reading = asyncio.create_task(_read(messages, member))
        sending = asyncio.create_task(outgoing.pump(lambda frames: context.write(pb.Frames(data=frames))))
        ending = asyncio.create_task(over.wait())
        try:
            try:
                await asyncio.wait((reading, sending, ending), return_when=asyncio.FIRST_COMPLETED)
            finally:
                member.leave()
                outgoing.close()
                self._streams.discard(outgoing)
            await asyncio.wait((sending,))  # gRPC tells no end while a message is on its way, and calls none back
        finally:
            for task in (reading, sending, ending):
                task.cancel()
            ends = await asyncio.gather(reading, sending, ending, return_exceptions=True)
        if isinstance(ends[0], msgspec.MsgspecError):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"These are no frames: {ends[0]}.")
        if outgoing.stalled:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "The front door does not read.")

    async def _files_of(self, request: common.GetTokenizerRequest, context: Any) -> None:
        try:
            async with aclosing(await self._files.chunks(self._tokenizer)) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    await context.write(chunk)
        except PorticoError as error:
            await context.abort(getattr(grpc.StatusCode, status_name(error)), error.message, error_metadata(error))


async def _read(messages: AsyncIterator[pb.Frames], member: Member) -> None:
    async for message in messages:
        member.receive(message.data)
