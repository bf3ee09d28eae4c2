"""Batches, as OpenAI's API has them: made of a file, read, listed, cancelled. Who runs them is ``server.batches``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from portico.errors import BadRequestError, NotFoundError
from portico.protocols.batches.openai import CreateBatchRequest, batch_list, shown
from portico.protocols.batches.record import OPEN, WINDOW, Record
from portico.protocols.files import new_id
from portico.protocols.paging import window
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.server.routes.answering import UNKNOWN_FIELDS, warn
from portico.server.routes.batches.stored import stored_batches
from portico.store import StoredBatch
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["BODIES", "BatchHandlers"]

KIND: Final = "openai"

BODIES: dict[tuple[str, str], type[BaseModel]] = {("/v1/batches", "POST"): CreateBatchRequest}


class BatchHandlers:
    """The handlers, over what is stored."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            "/v1/batches": {"POST": self.create, "GET": self.list},
            "/v1/batches/{id}": {"GET": self.get},
            "/v1/batches/{id}/cancel": {"POST": self.cancel},
        }

    async def create(self, exchange: Exchange) -> None:
        """POST /v1/batches."""
        request = await exchange.request(CreateBatchRequest)
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        store, owner, now = self._store, CALLER.get(), time.time()
        file = await store.files.get(owner, request.input_file_id)
        if file is None:
            raise NotFoundError(f"No such File object: {request.input_file_id[:64]}", param="input_file_id")
        if file.purpose != "batch":
            raise BadRequestError("The input file must have been uploaded with purpose 'batch'.", param="input_file_id")
        keep = request.output_expires_after
        record = Record(
            endpoint=request.endpoint,
            expires_at=int(now) + WINDOW,
            input_file_id=file.id,
            keep_output=keep.seconds if keep is not None else None,
            metadata=request.metadata,
        )
        batch = StoredBatch(
            id=new_id("batch_", now),
            owner=owner,
            kind=KIND,
            created_at=int(now),
            status="validating",
            reads=file.id,
            body=record.kept(),
        )
        await store.batches.create(batch)
        await exchange.respond_json(await self._shown(batch))

    async def list(self, exchange: Exchange) -> None:
        """GET /v1/batches, newest first."""
        limit, _, after = window(exchange.query)
        found = await self._store.batches.owned(CALLER.get(), KIND, after=after, limit=limit + 1)
        page = [await self._shown(one) for one in found[:limit]]
        await exchange.respond_json(batch_list(page, len(found) > limit))

    async def get(self, exchange: Exchange) -> None:
        """GET /v1/batches/{id}."""
        await exchange.respond_json(await self._shown(await self._batch(exchange)))

    async def cancel(self, exchange: Exchange) -> None:
        """POST /v1/batches/{id}/cancel: what runs is left, what has come out is kept."""
        batch = await self._batch(exchange)
        asked = {"cancelling_at": int(time.time())}
        await self._store.batches.change(batch.owner, batch.id, OPEN, "cancelling", asked)
        found = await self._batch(exchange)
        if batch.ended or found.status not in ("cancelling", "cancelled"):
            raise BadRequestError(
                f"The batch has ended: it is {found.status}. It cannot be cancelled.", param="batch_id"
            )
        await exchange.respond_json(await self._shown(found))

    @property
    def _store(self) -> Store:
        return stored_batches(self._served)

    async def _batch(self, exchange: Exchange) -> StoredBatch:
        id = exchange.path_params["id"]
        found = await self._store.batches.get(CALLER.get(), id)
        if found is None or found.kind != KIND:
            raise NotFoundError(f"No batch found with id '{id[:64]}'.", param="batch_id")
        return found

    async def _shown(self, batch: StoredBatch) -> dict[str, Any]:
        record = Record.of(batch.body)
        running = {} if record.counts is not None else await self._store.batches.counts(batch.id)
        return shown(batch.id, batch.created_at, batch.status, record, running)
