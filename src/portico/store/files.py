"""Files, in rows of chunks: a file of any size goes in and out with little memory, and is there whole or not at all.

Chunks are rows, and no files beside the database, because then one thing holds for both databases, several machines
share them, they are deleted with their row, and a backup of the database has them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal

from msgspec.structs import replace
from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, or_, select, update

from portico.errors import NotFoundError
from portico.store.coding import dumps, key, loads
from portico.store.database import Database
from portico.store.records import StoredFile
from portico.store.tables import batches, file_chunks, files

__all__ = ["READ", "Files", "publish", "release"]

CHUNK: Final = 256 << 10  # bytes

THAT = and_(files.c.id == bindparam("key"), files.c.owner == bindparam("whose"), files.c.worker.is_(None))
IT = and_(THAT, files.c.deleted.is_(False))
READ = exists().where(batches.c.reads == files.c.id, batches.c.ended_at.is_(None))  # a batch still does
GET = select(files).where(IT)
GET_READ = select(files).where(THAT, READ)
PUT = insert(files)
PUT_CHUNK = insert(file_chunks)
CHUNK_OF = select(file_chunks.c.data).where(
    file_chunks.c.file_id == bindparam("key"), file_chunks.c.number == bindparam("number")
)
HIDE = update(files).where(IT, READ).values(deleted=True)
REMOVE = delete(files).where(
    files.c.id == bindparam("key"), files.c.owner == bindparam("whose"), files.c.deleted.is_(False)
)
WRITTEN = update(files).where(files.c.id == bindparam("key")).values(size=bindparam("bytes"))


class Files:
    """The files of a store. Every call takes the owner: to others a file is not there."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker

    async def write(
        self,
        file: StoredFile,
        data: AsyncIterable[bytes],
        *,
        named: Callable[[StoredFile], StoredFile] | None = None,
        published: bool = True,
    ) -> StoredFile:
        """Keep a file with these bytes; it can be seen when all are there. ``named`` says what is known of it only
        then: its name, purpose and end. With ``published`` false it can be seen when the batch ends that it belongs to.
        What was begun is gone when ``data`` or ``named`` raises, or the process dies."""
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
            whole = file if named is None else named(file)
            return await self._database.write(_end, whole, size + len(waiting), published)
        except BaseException:
            await self._database.write(_remove, file.owner, file.id)
            raise

    async def get(self, owner: str, id: str) -> StoredFile | None:
        """The file of that id."""
        return await self._database.read(_get, owner, id, False)

    async def read(self, owner: str, id: str, *, for_batch: bool = False) -> AsyncIterator[bytes]:
        """Its bytes, in pieces; with ``for_batch`` also those of one that is deleted or has expired, which a batch
        still reads. Raises ``NotFoundError``, also when it is deleted meanwhile."""
        file = await self._database.read(_get, owner, id, for_batch)
        if file is None:
            raise NotFoundError("There is no such file.", param="id")
        for number in range(-(-file.size // CHUNK)):
            data = await self._database.read(_chunk, id, number)
            if data is None:
                raise NotFoundError("The file was deleted while it was read.", param="id")
            yield data

    async def bytes_of(self, owner: str) -> int:
        """How many bytes all files of the owner have, also those that are being written, and those of owners whose
        name begins with the owner's and a slash: parts of files that are to be the owner's."""
        return await self._database.read(_bytes_of, owner)

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
        """Delete it; whether it was there. What a batch reads of it stays until that ends."""
        return await self._database.write(_remove, owner, id)


def publish(connection: Connection, ids: Sequence[str]) -> None:
    """Let these files, which are written, be seen."""
    connection.execute(update(files).where(files.c.id.in_([key(id) for id in ids])).values(worker=None))


def release(connection: Connection, id: str | None) -> None:
    """A batch has read this file: if it was deleted, and no other reads it, it is gone."""
    if id is not None:
        connection.execute(delete(files).where(files.c.id == id, files.c.deleted, ~READ))


def _begin(connection: Connection, file: StoredFile, worker: str) -> None:
    row = {"id": key(file.id), "owner": file.owner, "created_at": file.created_at, "worker": worker, "size": 0}
    connection.execute(PUT, {**row, **_named(file)})


def _named(file: StoredFile) -> dict[str, Any]:
    content = dumps([file.filename, file.purpose])
    return {"purpose": key(file.purpose), "expires_at": file.expires_at, "content": content}


def _add(connection: Connection, id: str, number: int, data: bytes) -> None:
    connection.execute(PUT_CHUNK, {"file_id": key(id), "number": number, "data": data})
    connection.execute(WRITTEN, {"key": key(id), "bytes": number * CHUNK + len(data)})


def _end(connection: Connection, file: StoredFile, size: int, published: bool) -> StoredFile:
    connection.execute(update(files).where(files.c.id == key(file.id)).values(_named(file)))
    if published:
        publish(connection, [file.id])
    return replace(file, size=size)


def _get(connection: Connection, owner: str, id: str, for_batch: bool) -> StoredFile | None:
    row = connection.execute(GET_READ if for_batch else GET, {"key": key(id), "whose": owner}).first()
    return None if row is None or (_expired(row) and not for_batch) else _shown(row)


def _chunk(connection: Connection, id: str, number: int) -> bytes | None:
    return connection.scalar(CHUNK_OF, {"key": key(id), "number": number})


def _bytes_of(connection: Connection, owner: str) -> int:
    theirs = or_(files.c.owner == owner, files.c.owner.startswith(f"{owner}/"))
    return int(connection.scalar(select(func.sum(files.c.size)).where(theirs)) or 0)


def _list(
    connection: Connection, owner: str, purpose: str | None, after: str | None, limit: int | None, order: str
) -> list[StoredFile]:
    found = select(files).where(files.c.owner == owner, files.c.worker.is_(None), files.c.deleted.is_(False))
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
    it = {"key": key(id), "whose": owner}
    return bool(connection.execute(HIDE, it).rowcount or connection.execute(REMOVE, it).rowcount)


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
