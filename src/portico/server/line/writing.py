"""Bytes to one connection, written from within the step loop.

ASGI's ``send`` is a coroutine that does not suspend while the transport has room, so it is resumed by hand. Only when
the transport is full does a task take over; until it is through, what comes is collected and then written in one
piece. A client that stops reading costs bounded memory.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

from portico.protocols import sse
from portico.server.http.exchange import Exchange

__all__ = ["MAX_UNSENT", "ConnectionWriter"]

MAX_UNSENT = 8 << 20  # bytes collected for a client that does not read before it is given up


class ConnectionWriter:
    """Collects bytes for one response, and writes them in one piece when it is flushed.

    ``complete``: the last bytes have been written here, if not sent.
    """

    def __init__(self) -> None:
        self.complete = False
        self._exchange: Exchange | None = None  # None until the response has started
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._sent_end = False
        self._writing: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether the head of the response has been sent."""
        return self._exchange is not None

    @property
    def stalled(self) -> bool:
        """True when more than ``MAX_UNSENT`` bytes wait for the client."""
        return self._unsent_bytes > MAX_UNSENT

    async def start(self, exchange: Exchange, first: bytes = b"") -> None:
        """Send the head of a stream; then ``first``, before what has come meanwhile."""
        await exchange.start_stream(sse.MEDIA_TYPE)
        self._exchange = exchange
        self._unsent.insert(0, first)
        self.flush()

    def write(self, data: bytes) -> None:
        """Take these bytes; they are sent when the writer is flushed."""
        if data:
            self._unsent.append(data)
            self._unsent_bytes += len(data)

    def flush(self) -> None:
        """Send everything that has come, in one piece."""
        exchange = self._exchange
        if exchange is None or self._writing is not None or self._sent_end:
            return
        if not self._unsent and not self.complete:
            return
        data = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        self._unsent.clear()
        self._unsent_bytes = 0
        self._sent_end = self.complete
        message = {"type": "http.response.body", "body": data, "more_body": not self.complete}
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
