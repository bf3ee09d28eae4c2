"""Where deltas end up: a server-sent event stream on a connection, or one body.

The stream writes to the connection from within the step loop: ASGI's ``send`` is a coroutine that does not suspend
while the transport has room, so it is resumed by hand. Only when the transport is full does a task take over; until it
is through, what comes is collected and then written in one piece. A client that stops reading costs bounded memory.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import Any

from portico.errors import PorticoError
from portico.events import Event
from portico.generation import Delta
from portico.protocols import sse
from portico.protocols.encoders import BodyEncoder, StreamEncoder
from portico.server.http.exchange import ClientGoneError, Exchange

__all__ = ["BodySink", "EventSink", "StreamSink"]

MAX_UNSENT = 8 << 20  # bytes collected for a client that does not read before its flight ends


class StreamSink:
    """Writes a stream's bytes to one connection, once per step."""

    def __init__(self, encoder: StreamEncoder) -> None:
        self._encoder = encoder
        self._exchange: Exchange | None = None  # None until the response has started
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._complete = False  # the last bytes are in ``_unsent`` or sent
        self._sent_end = False
        self._writing: asyncio.Task[None] | None = None
        self._silent = False

    @property
    def stalled(self) -> bool:
        """True when more than ``MAX_UNSENT`` bytes wait for the client."""
        return self._unsent_bytes > MAX_UNSENT

    async def open(self, exchange: Exchange) -> None:
        """Start the response and write what has already come; from here on the step loop writes."""
        await exchange.start_stream(sse.MEDIA_TYPE)
        self._exchange = exchange
        self._unsent.insert(0, self._encoder.start())
        self.flush()

    def feed(self, delta: Delta, position: int) -> None:
        """Encode one delta."""
        self._append(self._encoder.feed(delta, position))

    def finish(self) -> None:
        """Every choice is finished."""
        self._append(self._encoder.finish())
        self._complete = True

    def fail(self, error: PorticoError) -> None:
        """End the stream with an in-band error."""
        if not self._complete:
            self._append(self._encoder.fail(error))
            self._complete = True

    def keep_alive(self) -> None:
        """Write a comment if nothing was written since the last call."""
        if self._silent and self._exchange is not None and not self._complete:
            self._append(self._encoder.keep_alive())
            self.flush()
        self._silent = True

    def _append(self, data: bytes) -> None:
        if data:
            self._unsent.append(data)
            self._unsent_bytes += len(data)
            self._silent = False

    def flush(self) -> None:
        """Write everything that has come, in one piece."""
        exchange = self._exchange
        if exchange is None or self._writing is not None or self._sent_end:
            return
        if not self._unsent and not self._complete:
            return
        data = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        self._unsent.clear()
        self._unsent_bytes = 0
        self._sent_end = self._complete
        message = {"type": "http.response.body", "body": data, "more_body": not self._complete}
        sending: Any = exchange.send(message)
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return  # the usual case: the transport took it
        self._writing = asyncio.create_task(_finish(sending, waits_for))
        self._writing.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writing = None
        if not task.cancelled() and task.exception() is None:
            self.flush()


async def _finish(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """Finish, as a task, a coroutine that was started by hand and waits for ``waits_for``."""
    await _resume(coroutine, waits_for)


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            sent: Any = yield waits_for
        except BaseException as error:
            failure: BaseException | None = error
        else:
            failure = None
        try:
            waits_for = coroutine.send(sent) if failure is None else coroutine.throw(failure)
        except StopIteration:
            return


class BodySink:
    """Collects a whole answer."""

    stalled = False

    def __init__(self, encoder: BodyEncoder) -> None:
        self._encoder = encoder
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def feed(self, delta: Delta, position: int) -> None:
        """Fold one delta in."""
        self._encoder.feed(delta, position)

    def flush(self) -> None:
        """A body is written once, at the end."""

    def finish(self) -> None:
        """Every choice is finished."""
        if not self._done.done():
            self._done.set_result(None)

    def fail(self, error: PorticoError) -> None:
        """The answer will not come."""
        if not self._done.done():
            self._done.set_exception(error)

    def keep_alive(self) -> None:
        """A body that has not started cannot carry comments."""

    async def body(self, exchange: Exchange) -> bytes:
        """Wait for the whole answer. Raises what ``fail`` was given, or ``ClientGoneError``."""
        gone = asyncio.ensure_future(exchange.disconnected())
        try:
            await asyncio.wait((self._done, gone), return_when=asyncio.FIRST_COMPLETED)
            if not self._done.done():
                raise ClientGoneError
            self._done.result()
            return self._encoder.body()
        finally:
            gone.cancel()
            self._done.cancel()


class EventSink:
    """Hands a flight's events to whoever iterates it, in this process; the first choice only."""

    stalled = False

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | PorticoError | None] = asyncio.Queue()

    def feed(self, delta: Delta, position: int) -> None:
        """Pass one delta's events on."""
        for event in delta.events:
            self._events.put_nowait(event)
        if delta.finish is not None:
            self._events.put_nowait(delta.finish)

    def flush(self) -> None:
        """Events are passed on as they come."""

    def finish(self) -> None:
        """No more events follow."""
        self._events.put_nowait(None)

    def fail(self, error: PorticoError) -> None:
        """Whoever iterates gets ``error``."""
        self._events.put_nowait(error)

    def keep_alive(self) -> None:
        """Nobody here times out."""

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            if isinstance(event, PorticoError):
                raise event
            yield event
