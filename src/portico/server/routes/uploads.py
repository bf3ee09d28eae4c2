"""Files that come in parts, as OpenAI's API has them.

What is known of an upload, and each of its parts, are files of nobody: their owner is the key's and more. They
are gone when the upload is complete, cancelled, or an hour old.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from portico.errors import BadRequestError, NotFoundError
from portico.keys import key_of
from portico.protocols.files import HOUR, CompleteUploadRequest, CreateUploadRequest, FileForm, PartRequest, new_id
from portico.protocols.validation import parse_body
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.http.gate import Gate
from portico.server.line.served import Served
from portico.server.routes.answering import UNKNOWN_FIELDS, warn
from portico.server.routes.files import (
    NO_FILES,
    UPLOADS,
    UPLOADS_PER_KEY,
    Room,
    end_of,
    received,
    room_of,
    shown,
)
from portico.store import StoredFile
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["BODIES", "UploadHandlers"]

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/uploads", "POST"): CreateUploadRequest,
    ("/v1/uploads/{id}/parts", "POST"): PartRequest,
    ("/v1/uploads/{id}/complete", "POST"): CompleteUploadRequest,
}

KNOWN: Final = "upload"  # the purpose of what is known of one; parts have "part"


class UploadHandlers:
    """The handlers, over what is stored."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._gate = Gate(UPLOADS, UPLOADS_PER_KEY)

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            "/v1/uploads": {"POST": self.create},
            "/v1/uploads/{id}/parts": {"POST": self.add_part},
            "/v1/uploads/{id}/complete": {"POST": self.complete},
            "/v1/uploads/{id}/cancel": {"POST": self.cancel},
        }

    async def create(self, exchange: Exchange) -> None:
        """POST /v1/uploads."""
        request = await exchange.request(CreateUploadRequest)
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        store, owner, now = self._store, CALLER.get(), time.time()
        (await room_of(self._served, store, owner)).check(request.bytes)
        upload = StoredFile(
            id=new_id("upload_", now),
            owner=_uploads(owner),
            created_at=int(now),
            filename=request.filename,
            purpose=KNOWN,
            expires_at=int(now) + HOUR,
        )
        await store.files.write(upload, _one(request.model_dump_json(exclude_unset=True).encode()))
        await exchange.respond_json(_shown(upload, request, "pending"))

    async def add_part(self, exchange: Exchange) -> None:
        """POST /v1/uploads/{id}/parts."""
        form = FileForm(exchange.header(b"content-type"), PartRequest, "data")
        upload, request = await self._upload(exchange)
        now = time.time()
        part = StoredFile(
            id=new_id("part_", now),
            owner=_parts(upload),
            created_at=int(now),
            filename="",
            purpose="part",
            expires_at=upload.expires_at,
        )
        room = await room_of(self._served, self._store, CALLER.get())
        if request.bytes < room.most:
            room = Room(request.bytes, f"The upload has {request.bytes} bytes, and no part may have more.", "data")

        def named(begun: StoredFile) -> StoredFile:
            warn(exchange, UNKNOWN_FIELDS, form.close().unknown_fields)
            return begun

        with self._gate.passing(key_of(CALLER.get())):
            await self._store.files.write(part, received(exchange, form, room), named=named)
        told = {"id": part.id, "object": "upload.part", "created_at": part.created_at, "upload_id": upload.id}
        await exchange.respond_json(told)

    async def complete(self, exchange: Exchange) -> None:
        """POST /v1/uploads/{id}/complete: its parts, in the order that is given, become a file."""
        asked = await exchange.request(CompleteUploadRequest)
        warn(exchange, UNKNOWN_FIELDS, asked.unknown_fields)
        upload, request = await self._upload(exchange)
        store, owner, now = self._store, CALLER.get(), time.time()
        parts = [await store.files.get(_parts(upload), id) for id in asked.part_ids]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            index = parts.index(None)
            raise BadRequestError(f"part_ids[{index}] is no part of this upload.", param=f"part_ids[{index}]")
        if (size := sum(part.size for part in found)) != request.bytes:
            raise BadRequestError(
                f"The parts have {size} bytes together; the upload was to have {request.bytes}.", param="part_ids"
            )
        file = StoredFile(
            id=new_id("file-", now),
            owner=owner,
            created_at=int(now),
            filename=request.filename,
            purpose=request.purpose,
            expires_at=end_of(request.purpose, request.expires_after, int(now), store),
        )
        digest = hashlib.md5(usedforsecurity=False)

        def checked(begun: StoredFile) -> StoredFile:
            if asked.md5 is not None and asked.md5.lower() != digest.hexdigest():
                raise BadRequestError("The MD5 of the parts together is another one.", param="md5")
            return begun

        kept = await store.files.write(file, self._together(found, digest.update), named=checked)
        if not await self._forget(upload):  # another request has completed it meanwhile
            await store.files.delete(owner, kept.id)
            raise _no_upload(upload.id)
        await exchange.respond_json({**_shown(upload, request, "completed"), "file": shown(kept)})

    async def cancel(self, exchange: Exchange) -> None:
        """POST /v1/uploads/{id}/cancel."""
        upload, request = await self._upload(exchange)
        if not await self._forget(upload):
            raise _no_upload(upload.id)
        await exchange.respond_json(_shown(upload, request, "cancelled"))

    @property
    def _store(self) -> Store:
        return self._served.store_for(NO_FILES)

    async def _upload(self, exchange: Exchange) -> tuple[StoredFile, CreateUploadRequest]:
        """The upload, and what it was made with."""
        id = exchange.path_params["id"]
        files, owner = self._store.files, _uploads(CALLER.get())
        found = await files.get(owner, id)
        if found is None:
            raise _no_upload(id)
        made = b"".join([piece async for piece in files.read(owner, id)])
        return found, parse_body(CreateUploadRequest, made)

    async def _together(self, parts: Sequence[StoredFile], see: Any) -> AsyncIterator[bytes]:
        for part in parts:
            async for piece in self._store.files.read(part.owner, part.id):
                see(piece)
                yield piece

    async def _forget(self, upload: StoredFile) -> bool:
        """It is over; whether it was there."""
        files = self._store.files
        was_there = await files.delete(upload.owner, upload.id)
        for part in await files.owned(_parts(upload)):
            await files.delete(part.owner, part.id)
        return was_there


def _uploads(owner: str) -> str:
    return f"{owner}/uploads"


def _parts(upload: StoredFile) -> str:
    return f"{upload.owner}/{upload.id}"


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _no_upload(id: str) -> NotFoundError:
    return NotFoundError(f"No such Upload object: {id[:64]}", param="upload_id")


def _shown(upload: StoredFile, request: CreateUploadRequest, status: str) -> dict[str, Any]:
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": request.bytes,
        "created_at": upload.created_at,
        "filename": request.filename,
        "purpose": request.purpose,
        "status": status,
        "expires_at": upload.expires_at,
    }
