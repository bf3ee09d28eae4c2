"""Batches and their lines. One process at a time runs a batch, and every line gets one result.

A line without a result is to be run, whoever ran it before; so a process that dies leaves nothing to be cleaned up but
its name, and another takes the batch over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, or_, select, update

from portico.errors import NotFoundError
from portico.store import batch_lines
from portico.store.coding import dumps, key, loads
from portico.store.database import Database
from portico.store.files import publish, release
from portico.store.records import LineFailures, NewLine, NewResult, StoredBatch, StoredLine
from portico.store.tables import batches, processes

__all__ = ["Batches"]

IT = and_(batches.c.id == bindparam("key"), batches.c.owner == bindparam("whose"))
GET = select(batches).where(IT)
PUT = insert(batches)
REMOVE = delete(batches).where(IT, batches.c.ended_at.is_not(None))

MINE = and_(batches.c.worker == bindparam("by"), batches.c.ended_at.is_(None))
RELEASE = update(batches).where(MINE).values(worker=None)
FREE = and_(batches.c.ended_at.is_(None), batches.c.worker.is_(None))
FIRST = select(func.min(processes.c.id)).scalar_subquery() == bindparam("by")
UNCLAIMED = select(batches).where(FREE, FIRST)


class Batches:
    """The batches of a store. Calls with an owner are for clients, those without for who runs the batch."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker
        self.news = asyncio.Event()  # set when a batch was made or changed by way of this object

    async def create(self, batch: StoredBatch, lines: Sequence[NewLine] = ()) -> None:
        """A new batch that nobody runs yet, with its lines as far as they are known."""
        await self._database.write(_create, batch, lines)
        self.news.set()

    async def get(self, owner: str, id: str) -> StoredBatch | None:
        """The batch of that id."""
        return await self._database.read(_get, owner, id)

    async def owned(
        self, owner: str, kind: str, *, after: str | None = None, before: str | None = None, limit: int | None = None
    ) -> list[StoredBatch]:
        """The owner's batches, newest first: those behind the batch ``after``, or the nearest in front of ``before``.
        Raises ``NotFoundError`` where it is none."""
        return await self._database.read(_list, owner, kind, after, before, limit)

    async def change(
        self, owner: str, id: str, since: Collection[str], status: str, changes: Mapping[str, Any]
    ) -> bool:
        """Give it a new status, and its body these members, if its status is one of ``since``; whether it was."""
        changed = await self._database.write(_change, owner, id, since, status, changes)
        self.news.set()
        return changed

    async def delete(self, owner: str, id: str) -> bool:
        """Delete one that has ended, with its lines; whether it was there."""
        return await self._database.write(_remove, owner, id)

    async def counts(self, id: str) -> dict[str | None, int]:
        """How many lines came out how; under None those that have no result."""
        return await self._database.read(batch_lines.counts, id)

    async def failures(self, id: str) -> list[LineFailures]:
        """Why lines of it failed, the most frequent cause first."""
        return await self._database.read(batch_lines.failures, id)

    async def results(self, id: str, *, after: int = -1, limit: int = 100) -> list[StoredLine]:
        """Its lines with greater numbers than ``after``, in order, as many as fit a page: the results, and the requests
        of those that have none."""
        return await self._database.read(batch_lines.page, batch_lines.RESULTS, id, after, limit)

    # -- for who runs it ----------------------------------------------------------------------------------------------

    async def claim(self, owners: Collection[str], ending: str = "", expired: int = 0) -> StoredBatch | None:
        """The oldest batch of these owners that nobody runs; before them, of whoever, one that has the status
        ``ending`` or was created until ``expired``. This process runs it from now on until it ends, or the process
        does."""
        if await self._database.read(_free, owners, ending, expired) is None:
            return None
        return await self._database.write(_claim, self._worker, owners, ending, expired)

    async def held(self) -> dict[str, str]:
        """The status of every batch that this process runs."""
        return await self._database.read(_held, self._worker)

    async def unclaimed(self) -> list[StoredBatch]:
        """The batches that nobody runs and that have not ended. Of all processes one is told, the others get none."""
        return await self._database.read(_unclaimed, self._worker)

    async def release(self) -> None:
        """This process runs none of them any more; others may go on."""
        await self._database.write(_release, self._worker)

    async def add_lines(self, id: str, lines: Sequence[NewLine]) -> None:
        """Lines of it; those that are there stay as they are."""
        await self._database.write(batch_lines.add, id, lines)

    async def waiting(self, id: str, *, after: int = -1, limit: int = 100) -> list[StoredLine]:
        """Its lines without a result behind the place ``after``, in their order, as many as fit a page."""
        return await self._database.read(batch_lines.page, batch_lines.WAITING, id, after, limit)

    async def put_results(self, id: str, results: Sequence[NewResult]) -> int:
        """How lines came out; how many of them that was new of. None is, if another process has the batch."""
        return await self._database.write(batch_lines.put_results, self._worker, id, results)

    async def give_up(self, id: str, outcome: str) -> int:
        """That is how all lines came out which have no result; how many they are."""
        return await self._database.write(batch_lines.give_up, self._worker, id, outcome)

    async def end(self, batch: StoredBatch, files: Sequence[str] = (), since: str | None = None) -> bool:
        """It has ended, with that status and body, and these files, which were written unpublished, can be seen: in one
        transaction. False, without effect, if it had ended, another process has it, or its status is not ``since``."""
        return await self._database.write(_end, self._worker, batch, files, since)


def _create(connection: Connection, batch: StoredBatch, lines: Sequence[NewLine]) -> None:
    row = {"id": key(batch.id), "owner": batch.owner, "kind": batch.kind, "created_at": batch.created_at}
    facts = {"status": batch.status, "reads": batch.reads and key(batch.reads), "content": dumps(batch.body)}
    connection.execute(PUT, {**row, **facts, "size": 0})
    batch_lines.add(connection, batch.id, lines)


def _get(connection: Connection, owner: str, id: str) -> StoredBatch | None:
    row = connection.execute(GET, {"key": key(id), "whose": owner}).first()
    return None if row is None else _shown(row)


def _list(
    connection: Connection, owner: str, kind: str, after: str | None, before: str | None, limit: int | None
) -> list[StoredBatch]:
    found = select(batches).where(batches.c.owner == owner, batches.c.kind == kind)
    by = (batches.c.created_at, batches.c.id)
    if (named := after if after is not None else before) is not None:
        edge = connection.execute(GET, {"key": key(named), "whose": owner}).first()
        if edge is None:
            raise NotFoundError("There is no such batch.", param="after" if after is not None else "before")
        same = batches.c.created_at == edge.created_at
        if after is not None:
            found = found.where(or_(by[0] < edge.created_at, and_(same, by[1] < edge.id)))
        else:
            found = found.where(or_(by[0] > edge.created_at, and_(same, by[1] > edge.id)))
    forward = after is None and before is not None
    found = found.order_by(*(by if forward else (column.desc() for column in by))).limit(limit)
    rows = [_shown(row) for row in connection.execute(found)]
    return rows[::-1] if forward else rows


def _change(
    connection: Connection, owner: str, id: str, since: Collection[str], status: str, changes: Mapping[str, Any]
) -> bool:
    row = connection.execute(GET.with_for_update(), {"key": key(id), "whose": owner}).first()
    if row is None or row.status not in since or row.ended_at is not None:
        return False
    content = dumps({**loads(row.content), **changes})
    connection.execute(update(batches).where(batches.c.id == key(id)).values(status=status, content=content))
    return True


def _remove(connection: Connection, owner: str, id: str) -> bool:
    return bool(connection.execute(REMOVE, {"key": key(id), "whose": owner}).rowcount)


def _free(connection: Connection, owners: Collection[str], ending: str, expired: int) -> str | None:
    first = or_(batches.c.status == ending, batches.c.created_at <= expired)
    free = FREE & or_(first, batches.c.owner.in_(owners))
    oldest = select(batches.c.id).where(free).order_by(case((first, 0), else_=1), batches.c.created_at, batches.c.id)
    return connection.scalar(oldest.limit(1).with_for_update(skip_locked=True))


def _claim(
    connection: Connection, worker: str, owners: Collection[str], ending: str, expired: int
) -> StoredBatch | None:
    id = _free(connection, owners, ending, expired)
    if id is None:
        return None
    row = connection.execute(update(batches).where(batches.c.id == id).values(worker=worker).returning(batches)).one()
    return _shown(row)


def _unclaimed(connection: Connection, worker: str) -> list[StoredBatch]:
    return [_shown(row) for row in connection.execute(UNCLAIMED, {"by": worker})]


def _held(connection: Connection, worker: str) -> dict[str, str]:
    found = connection.execute(select(batches.c.id, batches.c.status).where(MINE), {"by": worker})
    return {row.id: row.status for row in found}


def _release(connection: Connection, worker: str) -> None:
    connection.execute(RELEASE, {"by": worker})


def _end(connection: Connection, worker: str, batch: StoredBatch, files: Sequence[str], since: str | None) -> bool:
    mine = [batches.c.id == key(batch.id), batches.c.worker == worker, batches.c.ended_at.is_(None)]
    if since is not None:
        mine.append(batches.c.status == since)
    end = {
        **{"status": batch.status, "content": dumps(batch.body), "size": batch_lines.SIZE},
        **{"ended_at": time.time(), "worker": None},
    }
    ended = connection.execute(update(batches).where(*mine).values(end).returning(batches.c.reads)).first()
    if ended is None:
        return False
    publish(connection, files)
    release(connection, ended.reads)
    return True


def _shown(row: Any) -> StoredBatch:
    return StoredBatch(
        id=row.id,
        owner=row.owner,
        kind=row.kind,
        created_at=row.created_at,
        status=row.status,
        reads=row.reads,
        ended=row.ended_at is not None,
        body=loads(row.content),
    )
