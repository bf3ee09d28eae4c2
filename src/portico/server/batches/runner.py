"""Which batches this process runs: of every key one at a time, besides those whose last lines are running.

The keys' batches take turns line by line. What others do to a batch, a cancellation or a new one, is seen by looking
into the store now and then; what is done in this process is seen at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp

from portico.errors import StoreError
from portico.protocols.batches.record import WINDOW, Record
from portico.server.batches.job import Job
from portico.server.batches.meter import Meter
from portico.server.batches.slots import Slots
from portico.server.line.served import Served

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["Runner"]

log = logging.getLogger("portico")

LOOK: Final = 1.0  # seconds between two looks at what others have done
AGAIN: Final = 5.0  # seconds before a batch that failed for a reason of the server's is taken up again


class Runner:
    """Runs the batches of all who are ``owners`` then through ``app``, at most ``most`` lines at a time, less what else
    is in flight. ``meter`` counts their work."""

    def __init__(
        self, store: Store, app: ASGIApp, served: Served, owners: Callable[[], Sequence[str]], most: int, meter: Meter
    ) -> None:
        self._store = store
        self._app = app
        self._owners = owners
        self._meter = meter
        self._slots = Slots(most, lambda: served.in_flight)
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run what there is, and what comes."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Begin nothing more, and leave the lines that run: they are run again by whoever takes the batches over."""
        if not self._stopping:
            self._stopping = True
            for job in self._jobs.values():
                job.stop("given back")
            self._store.batches.news.set()

    async def close(self) -> None:
        """Stop, and give the batches back."""
        self.stop()
        if self._task is not None:
            await asyncio.wait((self._task, *self._tasks))

    async def _run(self) -> None:
        news = self._store.batches.news
        while not self._stopping:
            news.clear()
            try:
                await self._look()
                await self._tell()
            except StoreError:
                pass  # it is logged there
            except Exception:
                log.exception("batches are not looked after")
            try:
                await asyncio.wait_for(news.wait(), LOOK)
            except TimeoutError:
                continue
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        try:
            await self._store.batches.release()
        except StoreError:
            pass  # it is logged, and who comes next takes this process for dead

    async def _look(self) -> None:
        """Heed what was done to the batches that run here, and take up others."""
        batches = self._store.batches
        held = await batches.held() if self._jobs else {}
        for id, job in self._jobs.items():
            if id not in held:
                job.stop("given back")
            elif held[id] == "cancelling":
                job.stop("cancelled")
            elif job.expired:
                job.stop("expired")
        while not self._stopping:
            busy = {job.batch.owner for job in self._jobs.values() if not job.begun}
            free = [owner for owner in self._owners() if owner not in busy]
            batch = await batches.claim(free, "cancelling", int(time.time()) - WINDOW)
            if batch is None:
                return
            job = self._jobs[batch.id] = Job(batch, self._store, self._app, self._slots, self._meter)
            if batch.status == "cancelling":
                job.stop("cancelled")
            elif job.expired:
                job.stop("expired")
            task = asyncio.create_task(self._attend(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        """Say what is to be done."""
        jobs = self._jobs.values()
        unclaimed = await self._store.batches.unclaimed()
        waiting = sum(job.waiting for job in jobs)
        for batch in unclaimed:
            record = Record.of(batch.body)
            begun = record.in_progress_at is not None
            waiting += (await self._store.batches.counts(batch.id)).get(None, 0) if begun else record.total
        self._meter.backlog(
            {"running": len(jobs), "waiting": len(unclaimed)},
            {"running": sum(job.running for job in jobs), "waiting": waiting},
        )

    async def _attend(self, job: Job) -> None:
        """Run it to its end, whatever happens to the store meanwhile."""
        try:
            while not self._stopping:
                try:
                    await job.run()
                    return
                except StoreError as error:
                    log.warning("batch %s waits: %s", job.batch.id, error.message)
                except Exception:
                    log.exception("batch %s could not go on", job.batch.id)
                await asyncio.sleep(AGAIN)
        finally:
            del self._jobs[job.batch.id]
            self._store.batches.news.set()
