"""One batch that this process runs, from wherever it stands to its end.

Every part may be done again from its beginning, by this process or another: reading the file gives the same lines, a
line that has a result is not run, and result files that belong to no end are thrown away.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from msgspec.structs import replace
from starlette.types import ASGIApp

from portico.protocols.batches.failures import cause_of
from portico.protocols.batches.kinds import KINDS
from portico.protocols.batches.record import OPEN, Record
from portico.server.batches.asking import Asking
from portico.server.batches.meter import Meter
from portico.server.batches.openai import KIND
from portico.server.batches.reading import read_file
from portico.server.batches.results import Keeper, result_files
from portico.server.batches.slots import Slots
from portico.store import NewResult, StoredBatch, StoredLine

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["Job", "Stop"]

AHEAD: Final = 64  # lines that are read at once, at most

Stop: TypeAlias = Literal["cancelled", "expired", "given back"]


class Job:
    """A batch that was claimed."""

    def __init__(self, batch: StoredBatch, store: Store, app: ASGIApp, slots: Slots, meter: Meter) -> None:
        self.batch = batch
        self.begun = False  # all its lines: there is room for another batch
        self._record = Record.of(batch.body)
        self._kind = KINDS[batch.kind]
        self._store = store
        self._app = app
        self._slots = slots
        self._meter = meter
        self._keeper = Keeper(store, batch.id, meter, lambda: self._stop == "given back")
        self._stop: Stop | None = None
        self._stopped = asyncio.Event()
        self._asking: set[Asking] = set()
        self._left = self._record.total  # lines without a result
        self._fault: BaseException | None = None  # of a line

    @property
    def expired(self) -> bool:
        """Whether its window has passed."""
        return time.time() >= self._record.expires_at

    @property
    def running(self) -> int:
        """How many of its lines run."""
        return len(self._asking)

    @property
    def waiting(self) -> int:
        """How many of its lines are still to run."""
        return max(0, self._left - len(self._asking))

    def stop(self, why: Stop) -> None:
        """Begin no more lines, and leave those that run."""
        if self._stop is None or why == "given back":
            self._stop = why
            self._stopped.set()
            for one in tuple(self._asking):
                one.leave()

    async def run(self) -> None:
        """Read its lines, run them, put their results together; returns when it has ended or is given back. Raises
        ``StoreError``; then it may be called again."""
        self._fault = None
        found = await self._store.batches.get(self.batch.owner, self.batch.id)
        if found is None:
            return
        self.batch = found
        if self.batch.reads is not None and not Record.of(self.batch.body).total and self._stop != "given back":
            problems = await read_file(self._store, self.batch, self._record)
            if problems and self._stop is None:
                failed = replace(self._record, problems=problems, failed_at=int(time.time()))
                if await self._store.batches.end(replace(self.batch, status="failed", body=failed.kept())):
                    self._meter.batch(self.batch.kind, "failed")
                return
        await self._run_lines()
        self.begun = True
        while self._stop != "given back" and not await self._finish():
            continue

    # -- its lines ----------------------------------------------------------------------------------------------------

    async def _run_lines(self) -> None:
        """Run what has no result, until everything has, or it is to stop."""
        batches = self._store.batches
        self._left = (await batches.counts(self.batch.id)).get(None, 0)
        if self.batch.status == "in_progress" and Record.of(self.batch.body).in_progress_at is None:
            begun = {"in_progress_at": int(time.time())}
            await batches.change(self.batch.owner, self.batch.id, {"in_progress"}, "in_progress", begun)
        running: set[asyncio.Task[None]] = set()
        try:
            while self._stop is None and await self._begin(running):
                self.begun = True
                await self._all_of(running)
        finally:
            await self._all_of(running)

    async def _begin(self, running: set[asyncio.Task[None]]) -> bool:
        """Begin every line that has no result; whether there was one."""
        after = -1
        while lines := await self._store.batches.waiting(self.batch.id, after=after, limit=AHEAD):
            for line in lines:
                if not await self._slot() or self._fault is not None:
                    return True
                task = asyncio.create_task(self._run(line))
                running.add(task)
                task.add_done_callback(running.discard)
                after = line.place
        return after >= 0

    async def _all_of(self, running: set[asyncio.Task[None]]) -> None:
        if running:
            await asyncio.wait(tuple(running))
        if self._fault is not None:
            raise self._fault

    async def _slot(self) -> bool:
        """Wait for one's turn; False when it is to stop."""
        taking, stopped = asyncio.ensure_future(self._slots.take()), asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait((taking, stopped), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            if taking.done():
                self._slots.give()
            taking.cancel()
            return False
        stopped.cancel()
        return True

    async def _run(self, line: StoredLine) -> None:
        """Ask one line, which has a slot, and keep its result."""
        try:
            assert line.request is not None
            request = self._kind.read_line(line.request)
            asking = Asking(
                self._app,
                f"{self._kind.prefix}_{secrets.token_hex(16)}",
                request,
                self.batch.owner,
                self._record.headers,
            )
            self._asking.add(asking)
            if self._stop is not None:  # since this task was made
                asking.leave()
            try:
                answer = await asking.answer()
            finally:
                self._asking.discard(asking)
            if answer is not None:
                outcome, result = self._kind.answered(request.custom_id, asking.id, answer.status, answer.body)
                cause = None if outcome == "succeeded" else cause_of(answer.status, answer.body)
                await self._keeper.keep(NewResult(line.number, outcome, result, cause))
                self._left -= 1
        except Exception as fault:
            self._fault = fault
        finally:
            self._slots.give()

    # -- its end ------------------------------------------------------------------------------------------------------

    async def _finish(self) -> bool:
        """Put its results together and end it; False if it was changed meanwhile, so that it ends otherwise."""
        batches, id, owner = self._store.batches, self.batch.id, self.batch.owner
        if self._stop in ("cancelled", "expired"):
            self._meter.lines(self._stop, "", await batches.give_up(id, self._stop))
            self._left = 0
        else:
            await batches.change(owner, id, OPEN, "finalizing", {"finalizing_at": int(time.time())})
        found = await batches.get(owner, id)
        if found is None or found.ended or id not in await batches.held():
            return True
        status = "cancelled" if found.status == "cancelling" else self._stop or "completed"
        counts = {outcome: count for outcome, count in (await batches.counts(id)).items() if outcome is not None}
        failures = {one.cause: one.count for one in await batches.failures(id)}
        record = replace(Record.of(found.body), counts=counts, failures=failures)
        files: list[str] = []
        ended = False
        try:
            if found.kind == KIND:
                record = await result_files(self._store, found, record, files)
            body = replace(record, **{f"{status}_at": int(time.time())}).kept()
            ended = await batches.end(replace(found, status=status, body=body), files, since=found.status)
            if ended:
                self._meter.batch(found.kind, status)
        finally:
            if not ended:
                for file in files:
                    await self._store.files.delete(owner, file)
        return ended
