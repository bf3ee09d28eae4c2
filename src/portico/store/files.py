"""Files, in rows of chunks: a file of any size goes in and out with little memory, and is there whole or not at all.

Chunks are rows, and no files beside the database, because then one thing holds for both databases, several machines
share them, they are deleted with their row, and a backup of the database has them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any, Final, Literal

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select, update

from portico.errors import NotFoundError
from portico.store.coding import dumps, key, loads
from portico.store.database import Database
from portico.store.records import StoredFile
from portico.store.tables import file_chunks, files

__all__ = ["Files", "publish"]

CHUNK: Final = 256 << 10  # bytes

IT = and_(files.c.id == bindparam("key"), files.c.owner == bindparam("whose"), files.c.worker.is_(None))
GET = select(files).where(IT)
PUT = insert(files)
PUT_CHUNK = insert(file_chunks)
CHUNK_OF = (
    select(file_chunks.c.data)
    .join(files, files.c.id == file_chunks.c.file_id)
    .where(IT, file_chunks.c.number == bindparam("number"))
)
REMOVE = delete(files).where(files.c.id == bindparam("key"), files.c.owner == bindparam("whose"))
WRITTEN = update(files).where(files.c.id == bindparam("key")).values(size=bindparam("bytes"))


class Files:
    """The files of a store. Every call takes the owner: to others a file is not there."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker

    async def write(self, file: StoredFile, data: AsyncIterable[bytes], *, published: bool = True) -> StoredFile:
        """Keep a file with these bytes; it can be seen when all are there. With ``published`` false it can be seen when
        the batch ends that it belongs to. What was begun is gone when ``data`` raises, or the process dies."""
        await self._database.write(_begin, file, self._worker)
        try:
            size = number = 0
            waiting = bytearray()
            async for piece in data:
                waiting += piece
                while len(waiting) >= CHUNK:
                    await self._database.write(_add, file.id, number, bytes(waiting[:CHUNK]))
                    del waiting[:CHUNK]
                    size, number = size + CHUNK, number + 1
            if waiting:
                await self._database.write(_add, file.id, number, bytes(waiting))
            return await self._database.write(_end, file, size + len(waiting), published)
        except BaseException:
            await self._database.write(_remove, file.owner, file.id)
            raise

    async def get(self, owner: str, id: str) -> StoredFile | None:
        """The file of that id."""
        return await self._database.read(_get, owner, id)

    async def read(self, owner: str, id: str) -> AsyncIterator[bytes]:
        """Its bytes, in pieces. Raises ``NotFoundError`` when it is deleted meanwhile."""
        file = await self.get(owner, id)
        if file is None:
            raise NotFoundError("There is no such file.", param="id")
        for number in range(-(-file.size // CHUNK)):
            data = await self._database.read(_chunk, owner, id, number)
            if data is None:
                raise NotFoundError("The file was deleted while it was read.", param="id")
            yield data

    async def owned(
        self,
        owner: str,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] = "desc",
    ) -> list[StoredFile]:
        """The owner's files by their age, those behind the file ``after``. Raises ``NotFoundError`` where that is
        none."""
        return await self._database.read(_list, owner, purpose, after, limit, order)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete it; whether it was there."""
        return await self._database.write(_remove, owner, id)


def publish(connection: Connection, ids: Sequence[str]) -> None:
    """Let these files, which are written, be seen."""
    connection.execute(update(files).where(files.c.id.in_([key(id) for id in ids])).values(worker=None))


def _begin(connection: Connection, file: StoredFile, worker: str) -> None:
    row = {"id": key(file.id), "owner": file.owner, "created_at": file.created_at, "expires_at": file.expires_at}
    named = {"purpose": key(file.purpose), "size": 0, "content": dumps([file.filename, file.purpose])}
    connection.execute(PUT, {**row, **named, "worker": worker})


def _add(connection: Connection, id: str, number: int, data: bytes) -> None:
    connection.execute(PUT_CHUNK, {"file_id": key(id), "number": number, "data": data})
    connection.execute(WRITTEN, {"key": key(id), "bytes": number * CHUNK + len(data)})


def _end(connection: Connection, file: StoredFile, size: int, published: bool) -> StoredFile:
    if published:
        publish(connection, [file.id])
    return StoredFile(
        id=file.id,
        owner=file.owner,
        created_at=file.created_at,
        filename=file.filename,
        purpose=file.purpose,
        size=size,
        expires_at=file.expires_at,
    )


def _get(connection: Connection, owner: str, id: str) -> StoredFile | None:
    row = connection.execute(GET, {"key": key(id), "whose": owner}).first()
    return None if row is None or _expired(row) else _shown(row)


def _chunk(connection: Connection, owner: str, id: str, number: int) -> bytes | None:
    return connection.scalar(CHUNK_OF, {"key": key(id), "whose": owner, "number": number})


def _list(
    connection: Connection, owner: str, purpose: str | None, after: str | None, limit: int | None, order: str
) -> list[StoredFile]:
    found = select(files).where(files.c.owner == owner, files.c.worker.is_(None))
    found = found.where(or_(files.c.expires_at.is_(None), files.c.expires_at > time.time()))
    if purpose is not None:
        found = found.where(files.c.purpose == key(purpose))
    if after is not None:
        edge = connection.execute(GET, {"key": key(after), "whose": owner}).first()
        if edge is None:
            raise NotFoundError("There is no such file.", param="after")
        later, older = files.c.created_at > edge.created_at, files.c.created_at < edge.created_at
        same = files.c.created_at == edge.created_at
        behind = or_(later, and_(same, files.c.id > edge.id)) if order == "asc" else None
        found = found.where(or_(older, and_(same, files.c.id < edge.id)) if behind is None else behind)
    by = (files.c.created_at, files.c.id)
    found = found.order_by(*(by if order == "asc" else (column.desc() for column in by))).limit(limit)
    return [_shown(row) for row in connection.execute(found)]


def _remove(connection: Connection, owner: str, id: str) -> bool:
    return bool(connection.execute(REMOVE, {"key": key(id), "whose": owner}).rowcount)


def _expired(row: Any) -> bool:
    return row.expires_at is not None and row.expires_at <= time.time()


def _shown(row: Any) -> StoredFile:
    filename, purpose = loads(row.content)
    return StoredFile(
        id=row.id,
        owner=row.owner,
        created_at=row.created_at,
        filename=filename,
        purpose=purpose,
        size=row.size,
        expires_at=row.expires_at,
    )
