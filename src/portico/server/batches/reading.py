"""From a batch's file to its lines: all of them are looked at before any is kept, with little of them in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from portico.errors import NotFoundError
from portico.protocols.batches.lines import FileReader, NewRequest, run_order
from portico.protocols.batches.record import OPEN, Problem, Record
from portico.store import NewLine, StoredBatch

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["read_file"]

MOST_LINES, MOST_BYTES = 500, 1 << 20  # that are written at once
PIECE: Final = 64 << 10  # bytes that are looked at before others have their turn

GONE: Final = Problem("file_not_found", "The input file is no longer there.", None, "input_file_id")


async def read_file(store: Store, batch: StoredBatch, record: Record) -> list[Problem]:
    """Keep the lines of the batch's file, also of one that is cancelled meanwhile: each is told of in the end. What is
    wrong with them, where anything is: then none is kept. Raises ``StoreError``."""
    reader = FileReader(record.endpoint)
    beginnings: list[bytes] = []
    models: set[str | None] = set()
    try:
        async for request in _requests(store, batch, record, reader):
            beginnings.append(request.beginning)
            if len(models) < 2:
                models.add(request.model)
    except NotFoundError:
        reader.problems.append(GONE)
    if reader.problems:
        return reader.problems
    places = await asyncio.to_thread(run_order, beginnings)
    del beginnings
    lines: list[NewLine] = []
    number = size = 0
    async for request in _requests(store, batch, record, FileReader(record.endpoint)):
        lines.append(NewLine(number, places[number], request.line))
        number, size = number + 1, size + len(request.line)
        if len(lines) >= MOST_LINES or size >= MOST_BYTES:
            await store.batches.add_lines(batch.id, lines)
            lines, size = [], 0
    await store.batches.add_lines(batch.id, lines)
    model = models.pop() if len(models) == 1 else None
    known = {"total": number, "model": model}
    begun = {**known, "in_progress_at": int(time.time())}
    if not await store.batches.change(batch.owner, batch.id, OPEN, "in_progress", begun):
        await store.batches.change(batch.owner, batch.id, {"cancelling"}, "cancelling", known)
    return []


async def _requests(store: Store, batch: StoredBatch, record: Record, reader: FileReader) -> AsyncIterator[NewRequest]:
    assert record.input_file_id is not None
    async for piece in store.files.read(batch.owner, record.input_file_id, for_batch=True):
        for start in range(0, len(piece), PIECE):
            for request in reader.feed(piece[start : start + PIECE]):
                yield request
            await asyncio.sleep(0)
    for request in reader.close():
        yield request
