"""Responses that nobody waits for: their answers are runs, which whoever has the key may read, now or later.

The process that makes an answer feeds its readers from memory, and writes its events into the store a few times a
second: so any worker can tell them, and stop the answer, by way of the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from portico.errors import BadRequestError, CancelledError, GoneError, StoreError
from portico.generation import Generation
from portico.protocols.responses.response import TERMINAL
from portico.protocols.responses.stream import Answer, ResponseStream
from portico.server.http.exchange import Exchange
from portico.server.line.model import ServedModel
from portico.server.line.runs import Run, Runs, event_number
from portico.server.line.served import Served
from portico.server.line.writing import ConnectionWriter
from portico.server.routes.answering import admitted, decided
from portico.server.routes.responses.keeping import Keeping
from portico.server.routes.responses.turn import Turn
from portico.store import StoredResponse

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["Background", "starting_after"]

log = logging.getLogger("portico")

KEPT = 300.0  # seconds that the events of a complete answer stay in memory
WRITTEN = 0.25  # seconds between two writes of an answer's events
ASKED = 1.0  # seconds between two looks at whether another worker wants an answer stopped
PATIENCE = 10.0  # seconds for another worker to stop one


class _Going:
    """An answer that is being made here."""

    def __init__(self, run: Run, keeping: Keeping, answer: Answer, turn: Turn) -> None:
        self.run = run
        self.keeping = keeping
        self.answer = answer
        self.turn = turn
        self.over = asyncio.Event()


class Background:
    """The answers that are being made in this process, and the way to those of others."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._runs = Runs(KEPT)
        self._going: dict[str, _Going] = {}
        self._asking: asyncio.Task[None] | None = None

    @property
    def _store(self) -> Store:
        assert self._served.store is not None  # there is none without one
        return self._served.store

    async def answer(
        self,
        exchange: Exchange,
        by: ServedModel,
        made: Generation,
        answer: Answer,
        turn: Turn,
        go_on: Callable[[Keeping], Awaitable[bool]],
        *,
        streamed: bool,
    ) -> None:
        """Begin the answer, and say so; with ``streamed`` also read it."""
        id = answer.response["id"]
        await turn.begin(answer)
        try:
            decided(exchange, [made])
            queued = turn.stored(answer)
            await self._store.put_response(queued)
            encoder = ResponseStream(answer)
            run = self._runs.begin(encoder, turn.owner, id=id, lasting=True)
            try:
                keeping = Keeping(answer, run, self._served.endings, turn.keep, go_on)
                flight = await admitted(exchange, self._served, by, keeping)
            except BaseException:
                self._runs.end(run)
                await self._store.delete_response(turn.owner, id)
                raise
        except BaseException:
            await turn.end(answer)
            raise
        place = exchange.place.pop_all()  # it is taken until the answer is complete, whoever waits for it
        keeping.stop = partial(by.line.abort, flight)
        run.stop = keeping.abort
        going = self._going[id] = _Going(run, keeping, answer, turn)
        self._served.endings.begin(self._attend(going, place))
        if self._asking is None:
            self._asking = asyncio.create_task(self._heed_others())
        if streamed:
            with by.line.meter.streaming():
                await run.read(exchange)
        else:
            await exchange.respond_json(queued.body)

    async def read(self, exchange: Exchange, stored: StoredResponse, after: int) -> None:
        """Send the events behind number ``after``, and those to come."""
        run = self._runs.find(stored.id, stored.owner)
        if run is not None:
            await run.read(exchange, after)
        else:
            await self._read_store(exchange, stored, after)

    async def cancel(self, stored: StoredResponse) -> StoredResponse | None:
        """Stop the answer, wherever it is made; how it ended, None where it is not being made."""
        going = self._going.get(stored.id)
        if going is not None:
            self._stop(going)
            await going.over.wait()
            return going.turn.stored(going.answer)
        if stored.status in TERMINAL or not await self._store.ask_cancel(stored.owner, stored.id):
            return None
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        while loop.time() < until:
            await asyncio.sleep(WRITTEN)
            found = await self._store.response(stored.owner, stored.id)
            if found is None or found.status in TERMINAL:
                return found
        return None

    @staticmethod
    def _stop(going: _Going) -> None:
        if not going.answer.over:
            going.run.stop()
            going.keeping.fail(CancelledError("The response was cancelled."))

    # -- while it goes on ---------------------------------------------------------------------------------------------

    async def _attend(self, going: _Going, place: ExitStack) -> None:
        """Write its events into the store until it is over, and then let go of what it took."""
        id, run = going.answer.response["id"], going.run
        written = 0
        try:
            await self._begun(going)
            while True:
                complete = run.complete
                events, last = run.events(written), run.last
                if events:
                    try:
                        await self._store.add_events(id, last - len(events) + 1, events)
                        written = last
                    except StoreError as error:
                        log.warning("events of response %s could not be kept yet: %s", id, error)
                if complete:
                    return
                await run.ended(WRITTEN)
        finally:
            place.close()
            self._going.pop(id, None)
            going.over.set()
            await going.turn.end(going.answer)

    async def _begun(self, going: _Going) -> None:
        """Say in the store that it is being made, unless it is over already."""
        try:
            if not going.answer.over:
                await self._store.put_response(going.turn.stored(going.answer))
        except StoreError:
            return  # it is logged there, or it has ended meanwhile

    async def _heed_others(self) -> None:
        """Stop what other workers want stopped."""
        try:
            while self._going:
                await asyncio.sleep(ASKED)
                try:
                    for id in await self._store.cancels(list(self._going)):
                        if id in self._going:
                            self._stop(self._going[id])
                except StoreError:
                    continue  # it is logged there
        finally:
            self._asking = None

    # -- of other workers ---------------------------------------------------------------------------------------------

    async def _read_store(self, exchange: Exchange, stored: StoredResponse, after: int) -> None:
        events = await self._store.events(stored.owner, stored.id, after)
        if not events and stored.status in TERMINAL:
            raise GoneError("The events of this response are no longer kept; read it without 'stream'.")
        writer = ConnectionWriter()
        await writer.start(exchange)
        gone = asyncio.ensure_future(exchange.disconnected())
        rounds = 0
        try:
            while not gone.done():
                for number, event in events:
                    writer.write(event)
                    after = number
                    writer.complete = writer.complete or _ends(event)
                writer.flush()
                if writer.complete or writer.stalled:
                    break
                await asyncio.wait({gone}, timeout=WRITTEN)
                events = await self._store.events(stored.owner, stored.id, after)
                if not events:
                    rounds += 1
                    found = await self._store.response(stored.owner, stored.id) if rounds % 4 == 0 else stored
                    if found is None or (found.status in TERMINAL and rounds > 8):
                        writer.complete = True
                        writer.flush()
                        break
            await gone
        finally:
            gone.cancel()


def _ends(event: bytes) -> bool:
    """Whether the event, as it was sent, is the last."""
    name = event.partition(b"event: response.")[2].partition(b"\n")[0]
    return name in (b"completed", b"incomplete", b"failed")


def starting_after(given: str | None) -> int:
    """The number of the last event that was read, as runs count them: from 1. Raises ``BadRequestError``."""
    if given is None or given == "":
        return 0
    number = event_number(given)
    if number is None:
        raise BadRequestError("'starting_after' is the sequence_number of an event.", param="starting_after")
    return number + 1
