"""Runs: answers that outlive their connection.

A run is an answer whose sink is a log of events instead of a socket. Every event has a number, one more than the last,
which stands before it as SSE's ``id``. Readers attach behind any number, now or later, none or many; they are fed from
the log and then from the step loop, so each sees every event once and in order. An answer that nobody reads goes on
for ``grace`` seconds, then it is stopped; a complete one is kept as long for whoever comes back.

A run belongs to the API key that began it: to others it does not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from itertools import islice

from portico.errors import CancelledError, GoneError, NotFoundError, OverloadedError, PorticoError
from portico.generation import Delta
from portico.protocols.encoders import StreamEncoder
from portico.server.http.exchange import Exchange
from portico.server.line.writing import ConnectionWriter

__all__ = ["Run", "Runs", "event_number"]

MAX_LOG = 8 << 20  # bytes of events that one run keeps; the oldest go first
MOST_DIGITS = 18  # of an event's number
MAX_RUNS = 1024  # kept at a time, over or not


def event_number(given: str) -> int | None:
    """The number of an event as a client writes it; None for what is none."""
    return int(given) if given.isascii() and given.isdigit() and len(given) <= MOST_DIGITS else None


class Run:
    """One answer and its log. It is a ``Sink``; ``over`` is called once, when nobody needs it any more.

    It is never stalled: a reader that does not read is let go, and the answer goes on.
    """

    stalled = False

    def __init__(
        self,
        encoder: StreamEncoder,
        owner: str,
        grace: float,
        over: Callable[[Run], None],
        *,
        id: str | None,
        lasting: bool,
    ) -> None:
        self.id = id or f"run_{secrets.token_hex(16)}"
        self.owner = owner
        self.lasting = lasting  # it goes on however long nobody reads it
        self._ended = asyncio.Event()
        self.stop: Callable[[], None] = lambda: None  # ends the answer at the engine
        self._encoder = encoder
        self._grace = grace
        self._over = over
        self._log: deque[bytes] = deque()
        self._bytes = 0
        self._last = 0  # number of the newest event
        self._readers: set[ConnectionWriter] = set()
        self._silent = False
        self._unread: asyncio.TimerHandle | None = None
        self._take(encoder.start())

    # -- the answer ---------------------------------------------------------------------------------------------------

    def feed(self, delta: Delta, position: int) -> None:
        """Encode one delta."""
        self._take(self._encoder.feed(delta, position))

    def flush(self) -> None:
        """A step is over: let the readers have what has come. One that does not read gets the rest of what it has been
        written, should it ever, and the end of its response."""
        for reader in tuple(self._readers):
            reader.flush()
            if reader.stalled:
                reader.complete = True
                self.detach(reader)

    def finish(self) -> None:
        """Every choice is finished."""
        self._end(self._encoder.finish())

    def fail(self, error: PorticoError) -> None:
        """The answer ends with an in-band error."""
        if not self.complete:
            self._end(self._encoder.fail(error))

    def cancel(self) -> None:
        """Stop the answer, and tell its readers."""
        if not self.complete:
            self.stop()
            self.fail(CancelledError("The answer was cancelled."))
            self.flush()

    def keep_alive(self) -> None:
        """A comment to every reader if nothing has come since the last call; it has no number and is not kept."""
        if self._silent and not self.complete:
            for reader in self._readers:
                reader.write(self._encoder.keep_alive())
            self.flush()
        self._silent = True

    def _take(self, data: bytes) -> None:
        for event in data.split(b"\n\n")[:-1]:
            self._last += 1
            numbered = b"id: %d\n%b\n\n" % (self._last, event)
            self._log.append(numbered)
            self._bytes += len(numbered)
            for reader in self._readers:
                reader.write(numbered)
            self._silent = False
        while self._bytes > MAX_LOG:
            self._bytes -= len(self._log.popleft())

    def _end(self, data: bytes) -> None:
        self._take(data)
        self._ended.set()
        for reader in self._readers:
            reader.complete = True
        if self._unread is not None:  # its grace begins anew: who was to read it may not know yet that it is over
            self._unread.cancel()
            self._unread = None
        if not self._readers:
            self._wait()

    @property
    def complete(self) -> bool:
        """Whether the answer has come to its end."""
        return self._ended.is_set()

    async def ended(self, seconds: float) -> None:
        """Wait until it is complete, or so many seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    @property
    def last(self) -> int:
        """The number of the newest event."""
        return self._last

    def events(self, after: int) -> list[bytes]:
        """The events behind number ``after`` that are kept."""
        return list(islice(self._log, max(0, after - (self._last - len(self._log))), None))

    # -- its readers --------------------------------------------------------------------------------------------------

    async def read(self, exchange: Exchange, after: int = 0) -> None:
        """Send the events behind number ``after``, those that have come and those that will, until the answer or the
        client's interest ends. Raises ``GoneError`` where the log begins later than that, ``NotFoundError`` where it
        has not come so far."""
        first = self._last - len(self._log) + 1
        if after > self._last:
            raise NotFoundError(f"Event {after} has not come yet; the last is {self._last}.", param="after")
        if after + 1 < first:
            raise GoneError(f"The events up to {first - 1} are no longer kept; read after {first - 1} or later.")
        reader = ConnectionWriter()
        for event in islice(self._log, after + 1 - first, None):
            reader.write(event)
        reader.complete = self.complete
        self._readers.add(reader)
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        try:
            await reader.start(exchange)
            await exchange.disconnected()
        finally:
            self.detach(reader)

    def detach(self, reader: ConnectionWriter) -> None:
        """This reader wants no more; if it was the last, the run has its grace to find another."""
        if reader in self._readers:
            self._readers.remove(reader)
            if not self._readers:
                self._wait()

    def _wait(self) -> None:
        if self._unread is None and (self.complete or not self.lasting):
            self._unread = asyncio.get_running_loop().call_later(self._grace, self._over, self)


class Runs:
    """The runs of one server process. With a ``grace`` of 0 seconds there are none."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._runs: dict[str, Run] = {}

    def begin(self, encoder: StreamEncoder, owner: str, *, id: str | None = None, lasting: bool = False) -> Run:
        """A new run of that key's; one that is ``lasting`` needs no readers to go on.

        Raises ``OverloadedError`` when too many are kept.
        """
        if len(self._runs) >= MAX_RUNS:
            raise OverloadedError(
                "Too many resumable answers are kept; try again, or without X-Portico-Resume.", retry_after=1
            )
        run = Run(encoder, owner, self.grace, self.end, id=id, lasting=lasting)
        self._runs[run.id] = run
        return run

    def get(self, id: str, owner: str) -> Run:
        """That key's run of that id. Raises ``NotFoundError`` for any other."""
        run = self.find(id, owner)
        if run is None:
            raise NotFoundError("There is no such run, or it is no longer kept.", param="id")
        return run

    def find(self, id: str, owner: str) -> Run | None:
        """That key's run of that id, if there is one."""
        run = self._runs.get(id)
        return run if run is not None and run.owner == owner else None

    def end(self, run: Run) -> None:
        """Nobody needs it any more: stop the answer if it goes on, and forget it."""
        self._runs.pop(run.id, None)
        if not run.complete:
            run.stop()
