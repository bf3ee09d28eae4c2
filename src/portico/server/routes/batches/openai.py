"""Batches, as OpenAI's API has them: made of a file, read, listed, cancelled. Who runs them is ``server.batches``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from portico.errors import BadRequestError, NotFoundError
from portico.protocols.batches.openai import CreateBatchRequest, batch_list
from portico.protocols.batches.record import WINDOW, Record
from portico.protocols.paging import window
from portico.server.batches.openai import KIND, new_batch, shown_now
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.server.routes.answering import UNKNOWN_FIELDS, warn
from portico.server.routes.batches.stored import begin_cancelling, named_batch, stored_batches
from portico.store import StoredBatch
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["BODIES", "BatchHandlers"]

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
        batch = new_batch(owner, file.id, record, now)
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
        await begin_cancelling(self._store, batch)
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
        found = await named_batch(self._store, exchange, KIND)
        if found is None:
            raise NotFoundError(f"No batch found with id '{exchange.path_params['id'][:64]}'.", param="batch_id")
        return found

    async def _shown(self, batch: StoredBatch) -> dict[str, Any]:
        return await shown_now(self._store, batch)
