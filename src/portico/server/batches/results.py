"""What came of a batch's lines: kept as it comes, and read again as lines that tell it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from portico.errors import StoreError
from portico.protocols.batches.kinds import KINDS
from portico.protocols.batches.openai import usage_of
from portico.protocols.batches.record import Record, Usage
from portico.protocols.files import BATCH_DAYS, DAY, new_id
from portico.server.batches.meter import Meter
from portico.store import NewResult, StoredBatch, StoredFile

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["Keeper", "result_files", "results"]

AGAIN: Final = 1.0  # seconds before a store that failed is tried again
READ: Final = 1000  # lines at once, at most


class Keeper:
    """Keeps results. Those that come while others are being written are written together, in one transaction.

    ``given_up`` says whether nobody waits for a store that has failed any more.
    """

    def __init__(self, store: Store, id: str, meter: Meter, given_up: Callable[[], bool]) -> None:
        self._store = store
        self._id = id
        self._meter = meter
        self._given_up = given_up
        self._unwritten: list[NewResult] = []
        self._next: asyncio.Task[None] | None = None  # will write what comes until it begins
        self._last: asyncio.Task[None] | None = None

    async def keep(self, result: NewResult) -> None:
        """Returns when it is kept, or this process no longer has the batch."""
        self._unwritten.append(result)
        if self._next is None:
            self._next = self._last = asyncio.create_task(self._write(self._last))
        await asyncio.wait((self._next,))

    async def _write(self, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait((before,))
        results, self._unwritten, self._next = self._unwritten, [], None
        while not self._given_up():
            try:
                if await self._store.batches.put_results(self._id, results):
                    for one in results:
                        self._meter.lines(one.outcome, one.cause or "", 1)
                return
            except StoreError:
                await asyncio.sleep(AGAIN)


async def results(store: Store, batch: StoredBatch, succeeded: bool | None = None) -> AsyncIterator[bytes]:
    """The lines that tell how the batch's lines came out, in the order these were given: all, or those that succeeded,
    or the others."""
    kind = KINDS[batch.kind]
    after = -1
    while lines := await store.batches.results(batch.id, after=after, limit=READ):
        for line in lines:
            if succeeded is not None and succeeded != (line.outcome == "succeeded"):
                continue
            if line.result is not None:
                yield line.result + b"\n"
            elif line.request is not None and line.outcome is not None:
                yield kind.unanswered(kind.read_line(line.request).custom_id, line.outcome) + b"\n"
        after = lines[-1].number


async def result_files(store: Store, batch: StoredBatch, record: Record, made: list[str]) -> Record:
    """The record with its output file and its error file, of which one that would be empty is not made; their ids are
    added to ``made``. Nobody sees them before the batch ends."""
    counts = record.counts or {}
    good = counts.get("succeeded", 0)
    usage = Usage()

    async def succeeded() -> AsyncIterator[bytes]:
        nonlocal usage
        async for line in results(store, batch, succeeded=True):
            usage += usage_of(line)
            yield line

    changes: dict[str, Any] = {}
    if good:
        changes["output_file_id"] = await _file(store, batch, record, "output", succeeded(), made)
    if sum(counts.values()) > good:
        others = results(store, batch, succeeded=False)
        changes["error_file_id"] = await _file(store, batch, record, "error", others, made)
    return replace(record, usage=usage, **changes)


async def _file(
    store: Store, batch: StoredBatch, record: Record, name: str, lines: AsyncIterator[bytes], made: list[str]
) -> str:
    now = time.time()
    file = StoredFile(
        id=new_id("file-", now),
        owner=batch.owner,
        created_at=int(now),
        filename=f"{batch.id}_{name}.jsonl",
        purpose="batch_output",
        expires_at=int(now) + (record.keep_output or BATCH_DAYS * DAY),
    )
    made.append(file.id)
    await store.files.write(file, lines, published=False)
    return file.id
