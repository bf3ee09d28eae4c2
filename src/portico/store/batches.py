"""Batches and their lines. One process at a time runs a batch, and every line gets one result.

A line without a result is to be run, whoever ran it before; so a process that dies leaves nothing to be cleaned up but
its name, and another takes the batch over. Results count only from who has the batch, and only the first of each line.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, or_, select, update

from portico.errors import NotFoundError
from portico.store.coding import dumps, key, loads
from portico.store.database import Database
from portico.store.files import publish, release
from portico.store.records import StoredBatch, StoredLine
from portico.store.tables import batch_lines, batches, either

__all__ = ["Batches"]

IT = and_(batches.c.id == bindparam("key"), batches.c.owner == bindparam("whose"))
GET = select(batches).where(IT)
PUT = insert(batches)
REMOVE = delete(batches).where(IT, batches.c.ended_at.is_not(None))

LINE = and_(batch_lines.c.batch_id == bindparam("batch"), batch_lines.c.number == bindparam("which"))
HELD = exists().where(batches.c.id == bindparam("batch"), batches.c.worker == bindparam("by"))
PUT_LINES = either(lambda insert: insert(batch_lines).on_conflict_do_nothing())
PUT_RESULT = (
    update(batch_lines)
    .where(LINE, batch_lines.c.outcome.is_(None), HELD)
    .values(outcome=bindparam("how"), result=bindparam("what"))
)
GIVE_UP = (
    update(batch_lines)
    .where(batch_lines.c.batch_id == bindparam("batch"), batch_lines.c.outcome.is_(None), HELD)
    .values(outcome=bindparam("how"))
)
LINES = (
    select(batch_lines)
    .where(batch_lines.c.batch_id == bindparam("batch"), batch_lines.c.number > bindparam("after"))
    .order_by(batch_lines.c.number)
    .limit(bindparam("limit"))
)
COUNTS = (
    select(batch_lines.c.outcome, func.count())
    .where(batch_lines.c.batch_id == bindparam("batch"))
    .group_by(batch_lines.c.outcome)
)


class Batches:
    """The batches of a store. Calls with an owner are for clients, those without for who runs the batch."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker

    async def create(self, batch: StoredBatch, lines: Sequence[Any] = ()) -> None:
        """A new batch that nobody runs yet, with the requests of its lines as far as they are known."""
        await self._database.write(_create, batch, lines)

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
        return await self._database.write(_change, owner, id, since, status, changes)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete one that has ended, with its lines; whether it was there."""
        return await self._database.write(_remove, owner, id)

    async def counts(self, id: str) -> dict[str | None, int]:
        """How many lines came out how; under None those that have no result."""
        return await self._database.read(_counts, id)

    async def lines(self, id: str, *, after: int = -1, limit: int = 100, waiting: bool = False) -> list[StoredLine]:
        """Its lines with greater numbers, in order; with ``waiting`` those that have no result."""
        return await self._database.read(_lines, id, after, limit, waiting)

    # -- for who runs it ----------------------------------------------------------------------------------------------

    async def claim(self) -> StoredBatch | None:
        """The oldest batch that nobody runs, which this process runs from now on until it ends or the process does."""
        return await self._database.write(_claim, self._worker)

    async def add_lines(self, id: str, first: int, requests: Sequence[Any]) -> None:
        """The requests of its lines from number ``first`` on; those that are there stay as they are."""
        await self._database.write(_add_lines, id, first, requests)

    async def put_result(self, id: str, number: int, outcome: str, result: Any) -> bool:
        """How the line came out; False, without effect, if it has a result or another process has the batch."""
        return await self._database.write(_put_result, self._worker, id, number, outcome, result)

    async def give_up(self, id: str, outcome: str) -> int:
        """That is how all lines came out which have no result; how many they are."""
        return await self._database.write(_give_up, self._worker, id, outcome)

    async def end(self, batch: StoredBatch, files: Sequence[str] = ()) -> bool:
        """It has ended, with that status and body, and these files, which were written unpublished, can be seen: in one
        transaction. False, without effect, if it had ended or another process has it."""
        return await self._database.write(_end, self._worker, batch, files)


def _create(connection: Connection, batch: StoredBatch, lines: Sequence[Any]) -> None:
    row = {"id": key(batch.id), "owner": batch.owner, "kind": batch.kind, "created_at": batch.created_at}
    facts = {"status": batch.status, "reads": batch.reads and key(batch.reads), "content": dumps(batch.body)}
    connection.execute(PUT, {**row, **facts, "size": 0})
    _add_lines(connection, batch.id, 0, lines)


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


def _counts(connection: Connection, id: str) -> dict[str | None, int]:
    return {row[0]: row[1] for row in connection.execute(COUNTS, {"batch": key(id)})}


def _lines(connection: Connection, id: str, after: int, limit: int, waiting: bool) -> list[StoredLine]:
    asked = LINES.where(batch_lines.c.outcome.is_(None)) if waiting else LINES
    rows = connection.execute(asked, {"batch": key(id), "after": after, "limit": limit})
    return [
        StoredLine(row.number, loads(row.request), row.outcome, None if row.result is None else loads(row.result))
        for row in rows
    ]


def _claim(connection: Connection, worker: str) -> StoredBatch | None:
    free = select(batches.c.id).where(batches.c.ended_at.is_(None), batches.c.worker.is_(None))
    oldest = free.order_by(batches.c.created_at, batches.c.id).limit(1).with_for_update(skip_locked=True)
    id = connection.scalar(oldest)
    if id is None:
        return None
    row = connection.execute(update(batches).where(batches.c.id == id).values(worker=worker).returning(batches)).one()
    return _shown(row)


def _add_lines(connection: Connection, id: str, first: int, requests: Sequence[Any]) -> None:
    if requests:
        rows = [
            {"batch_id": key(id), "number": number, "request": dumps(request)}
            for number, request in enumerate(requests, first)
        ]
        connection.execute(PUT_LINES[connection.dialect.name], rows)


def _put_result(connection: Connection, worker: str, id: str, number: int, outcome: str, result: Any) -> bool:
    what = {"batch": key(id), "which": number, "by": worker, "how": outcome, "what": dumps(result)}
    return bool(connection.execute(PUT_RESULT, what).rowcount)


def _give_up(connection: Connection, worker: str, id: str, outcome: str) -> int:
    return connection.execute(GIVE_UP, {"batch": key(id), "by": worker, "how": outcome}).rowcount


def _end(connection: Connection, worker: str, batch: StoredBatch, files: Sequence[str]) -> bool:
    mine = (batches.c.id == key(batch.id), batches.c.worker == worker, batches.c.ended_at.is_(None))
    sizes = func.length(batch_lines.c.request) + func.coalesce(func.length(batch_lines.c.result), 0)
    size = select(func.coalesce(func.sum(sizes), 0)).where(batch_lines.c.batch_id == batches.c.id).scalar_subquery()
    end = {"status": batch.status, "content": dumps(batch.body), "size": size, "ended_at": time.time(), "worker": None}
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
