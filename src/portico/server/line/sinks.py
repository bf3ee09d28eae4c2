"""Where deltas end up: a server-sent event stream on a connection, one body, or whoever iterates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from portico.errors import PorticoError
from portico.events import Event
from portico.generation import Delta
from portico.protocols.encoders import BodyEncoder, StreamEncoder
from portico.server.http.exchange import ClientGoneError, Exchange
from portico.server.line.writing import ConnectionWriter

__all__ = ["BodySink", "EventSink", "StreamSink"]


class StreamSink(ConnectionWriter):
    """Writes a stream's bytes to one connection, once per step."""

    def __init__(self, encoder: StreamEncoder) -> None:
        super().__init__()
        self._encoder = encoder
        self._silent = False

    async def open(self, exchange: Exchange) -> None:
        """Start the response and write what has already come; from here on the step loop writes."""
        await self.start(exchange, self._encoder.start())

    def feed(self, delta: Delta, position: int) -> None:
        """Encode one delta."""
        data = self._encoder.feed(delta, position)
        if data:
            self._unsent.append(data)  # as ``write`` does; a call of it per event would be felt
            self._unsent_bytes += len(data)
            self._silent = False

    def finish(self) -> None:
        """Every choice is finished."""
        self.write(self._encoder.finish())
        self.complete = True

    def fail(self, error: PorticoError) -> None:
        """End the stream with an in-band error."""
        if not self.complete:
            self.write(self._encoder.fail(error))
            self.complete = True

    def keep_alive(self) -> None:
        """Write a comment if nothing was written since the last call."""
        if self._silent and self.started and not self.complete:
            self.write(self._encoder.keep_alive())
            self.flush()
        self._silent = True


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
