"""The Responses API over a WebSocket.

There is one way to a response: each frame that asks for one becomes a request of this process, and the events of its
stream become frames. Frames of one lane wait for each other, in the order in which they came; lanes run side by side.
When the client goes, so does what it has asked for. When the server is about to end, what runs may end, what comes is
refused in a frame, and the socket is closed behind the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final

from portico.errors import PorticoError, RateLimitError
from portico.protocols.bounds import LARGE
from portico.protocols.openai import errors
from portico.protocols.responses.frames import Create, Frames, error_frame, read_frame
from portico.server.http.exchange import Exchange
from portico.server.http.gate import Bodies
from portico.server.http.inner import InnerRequest
from portico.server.http.sockets import SOCKET, Socket
from portico.server.routes.responses.past import Lane
from portico.threads import CALLER, Threads

__all__ = ["LANE", "serve_socket"]

LANE: Final = "portico.lane"  # in the scope of a request that a frame made: its ``Lane``

PATH = "/v1/responses"
MOST_FRAMES = 64  # of one socket, waiting or being answered
MOST_LANES = 64  # of one socket, remembered

FAILED = b'{"type":"response.failed"'  # how the last frame of a failed response begins

_LARGE_FRAMES = Threads("frames", 1, waiting=64)


async def serve_socket(exchange: Exchange) -> None:
    """Accept the socket of this handshake, and answer its frames until it is closed."""
    socket: Socket = exchange.scope[SOCKET]
    await socket.accept(exchange, _Frames(socket, CALLER.get(), exchange.bodies).serve)


class _Frames:
    """The frames of one socket of ``caller``."""

    def __init__(self, socket: Socket, caller: str, bodies: Bodies) -> None:
        self._socket = socket
        self._caller = caller
        self._bodies = bodies
        self._lanes: dict[str | None, Lane] = {}  # the last used is the last
        self._working: dict[InnerRequest, asyncio.Task[None]] = {}
        self._ending = False
        self._gone = False

    async def serve(self) -> None:
        """Until the socket is closed."""
        try:
            async for text in self._socket:
                if text is None:
                    self._ending = True
                    await self._end_if_done()
                else:
                    await self._take(text)
        finally:
            self._gone = True
            for request in self._working:
                request.leave()
            if self._working:
                await asyncio.wait(self._working.values())

    async def _take(self, text: str) -> None:
        """One frame. No other is read while a large one is looked at, which keeps them in order."""
        try:
            if len(self._working) >= MOST_FRAMES:
                raise RateLimitError(f"At most {MOST_FRAMES} frames of a socket may wait; try again.", retry_after=1)
            read = partial(read_frame, text)
            create = await _LARGE_FRAMES.run(read) if len(text) > LARGE else read()
        except PorticoError as error:
            await self._refuse(error, None)
            return
        if isinstance(create, bytes):
            await self._socket.send(create)
        elif create is not None:
            self._begin(create, self._lane(create.stream_id))

    def _lane(self, id: str | None) -> Lane:
        lane = self._lanes[id] = self._lanes.pop(id) if id in self._lanes else Lane(self._lanes)
        if len(self._lanes) > MOST_LANES:
            for name, one in self._lanes.items():
                if one is not lane and not one.turn.locked():
                    del self._lanes[name]
                    break
        return lane

    def _begin(self, create: Create, lane: Lane) -> None:
        told = _Told(self._socket, create.stream_id)
        request = InnerRequest(
            PATH,
            create.body,
            asked_by=self._caller,
            like=self._socket.scope,
            facts={LANE: lane},
            stream=told.events,
        )
        work = self._in_turn(request, told, lane, len(create.body), create.previous_id)
        self._working[request] = asyncio.create_task(work)

    async def _in_turn(self, request: InnerRequest, told: _Told, lane: Lane, size: int, previous_id: str) -> None:
        """Ask, once those before it in its lane are answered. Where that fails nothing goes on from what it follows."""
        try:
            with self._bodies.holding() as held:
                held.grow(size)
                await lane.turn.acquire()
            try:
                if not self._gone and not await told.answer(request):
                    lane.forget(previous_id)
            finally:
                lane.turn.release()
        except PorticoError as error:
            await self._refuse(error, told.stream_id)
        finally:
            del self._working[request]
            await self._end_if_done()

    async def _refuse(self, error: PorticoError, stream_id: str | None) -> None:
        headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
        await self._socket.send(error_frame(error.status, errors.body(error), stream_id, headers))

    async def _end_if_done(self) -> None:
        if self._ending and not self._working:
            await self._socket.end()


class _Told:
    """What is told of one answer, in frames of ``stream_id``."""

    def __init__(self, socket: Socket, stream_id: str | None) -> None:
        self.stream_id = stream_id
        self._socket = socket
        self._frames = Frames(stream_id)
        self._last = b""

    async def answer(self, request: InnerRequest) -> bool:
        """Tell all of it; returns whether a response came of it that can be gone on from."""
        answer = await request.ask(self._socket.app)
        if answer.status >= 400:
            await self._socket.send(error_frame(answer.status, answer.body, self.stream_id, answer.headers))
            return False
        return not self._last.startswith(FAILED)

    async def events(self, events: bytes, headers: Mapping[str, str]) -> None:
        """Tell these events of an answer with such headers."""
        for frame in self._frames.of(events, headers):
            self._last = frame
            await self._socket.send(frame)
