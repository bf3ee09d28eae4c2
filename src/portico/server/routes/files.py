"""Files, as OpenAI's API has them: kept, listed, read, deleted. A file is its owner's alone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec.structs import replace
from pydantic import BaseModel

from portico.errors import NotFoundError, RequestTooLargeError
from portico.keys import key_of
from portico.protocols.files import BATCH_DAYS, DAY, FORM, ExpiresAfter, FileForm, UploadRequest, new_id
from portico.protocols.paging import item_list, window
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.http.gate import Gate
from portico.server.line.served import Served
from portico.server.routes.answering import UNKNOWN_FIELDS, warn
from portico.store import StoredFile
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["BODIES", "NO_FILES", "FileHandlers", "Room", "end_of", "received", "room_of", "shown"]

BODIES: dict[tuple[str, str], type[BaseModel]] = {("/v1/files", "POST"): UploadRequest}

NO_FILES: Final = "This server keeps no files (it runs with --store none)."
UPLOADS, UPLOADS_PER_KEY = 64, 16  # at a time
MOST_LISTED: Final = 10_000


class FileHandlers:
    """The handlers, over what is stored."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._gate = Gate(UPLOADS, UPLOADS_PER_KEY)

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            "/v1/files": {"POST": self.upload, "GET": self.list},
            "/v1/files/{id}": {"GET": self.get, "DELETE": self.delete},
            "/v1/files/{id}/content": {"GET": self.content},
        }

    async def upload(self, exchange: Exchange) -> None:
        """POST /v1/files."""
        store = self._store
        owner = CALLER.get()
        now = time.time()
        form = FileForm(exchange.header(b"content-type"), UploadRequest)
        room = await room_of(self._served, store, owner)
        begun = StoredFile(id=new_id("file-", now), owner=owner, created_at=int(now), filename="", purpose="")

        def named(begun: StoredFile) -> StoredFile:
            request = form.close()
            warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
            ends = end_of(request.purpose, request.expires_after, begun.created_at, store)
            return replace(begun, filename=request.file, purpose=request.purpose, expires_at=ends)

        with self._gate.passing(key_of(owner)):
            file = await store.files.write(begun, received(exchange, form, room), named=named)
        await exchange.respond_json(shown(file))

    async def list(self, exchange: Exchange) -> None:
        """GET /v1/files, newest first."""
        limit, order, after = window(exchange.query, MOST_LISTED, MOST_LISTED)
        purpose = exchange.query.get("purpose") or None
        found = await self._store.files.owned(CALLER.get(), purpose=purpose, after=after, limit=limit + 1, order=order)
        await exchange.respond_json(item_list([*map(shown, found[:limit])], len(found) > limit))

    async def get(self, exchange: Exchange) -> None:
        """GET /v1/files/{id}."""
        await exchange.respond_json(shown(await self._file(exchange)))

    async def content(self, exchange: Exchange) -> None:
        """GET /v1/files/{id}/content."""
        file = await self._file(exchange)
        exchange.response_headers.append((b"x-content-type-options", b"nosniff"))  # no page, whatever it holds
        await exchange.respond_pieces(
            file.size, self._store.files.read(file.owner, file.id), b"application/octet-stream"
        )

    async def delete(self, exchange: Exchange) -> None:
        """DELETE /v1/files/{id}."""
        id = exchange.path_params["id"]
        if not await self._store.files.delete(CALLER.get(), id):
            raise _no_file(id)
        await exchange.respond_json({"id": id, "object": "file", "deleted": True})

    @property
    def _store(self) -> Store:
        return self._served.store_for(NO_FILES)

    async def _file(self, exchange: Exchange) -> StoredFile:
        id = exchange.path_params["id"]
        found = await self._store.files.get(CALLER.get(), id)
        if found is None:
            raise _no_file(id)
        return found


class Room(NamedTuple):
    """How many bytes a file may have, and what is said of one that has more."""

    most: int
    told: str
    param: str = "file"

    def check(self, size: int) -> None:
        if size > self.most:
            raise RequestTooLargeError(self.told, param=self.param)


async def room_of(served: Served, store: Store, owner: str) -> Room:
    """How large the owner's next file may be."""
    largest, together = served.file_bounds
    left = together - await store.files.bytes_of(owner)
    if largest <= left:
        return Room(largest, f"A file may have {largest} bytes here (--max-file).")
    return Room(
        left, f"The files of one API key may have {together} bytes together (--max-files-per-key); delete some."
    )


async def received(exchange: Exchange, form: FileForm[Any], room: Room) -> AsyncIterator[bytes]:
    """The bytes of the file in the request's body, as they come."""
    declared = exchange.header(b"content-length") or ""
    room.check(int(declared[:18]) - FORM if declared.isdigit() else 0)
    size = 0
    async for data in exchange.pieces(room.most + FORM):
        for piece in form.feed(data):
            size += len(piece)
            room.check(size)
            yield piece


def end_of(purpose: str, after: ExpiresAfter | None, created_at: int, store: Store) -> int | None:
    """When a file is kept no longer, in unix seconds: as its client says, or sooner if the server keeps nothing for so
    long."""
    ends = []
    if after is not None:
        ends.append(created_at + after.seconds)
    elif purpose == "batch":
        ends.append(created_at + BATCH_DAYS * DAY)
    if (days := store.retention.max_age) is not None:
        ends.append(created_at + int(days * DAY))
    return min(ends, default=None)


def _no_file(id: str) -> NotFoundError:
    return NotFoundError(f"No such File object: {id[:64]}", param="id")


def shown(file: StoredFile) -> dict[str, Any]:
    ends = {} if file.expires_at is None else {"expires_at": file.expires_at}
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": file.created_at,
        **ends,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }
