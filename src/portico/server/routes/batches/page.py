"""What the page of batches shows: those of the key that asks, of both APIs, as they are now.

A batch that runs is counted in the store, by an index; one that waits or has ended is not, so that a page which asks
every other second costs little.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from portico.errors import BadRequestError, NotFoundError
from portico.protocols.batches.failures import told_by
from portico.protocols.batches.kinds import KINDS
from portico.protocols.batches.page import Example, detailed, shown
from portico.protocols.batches.record import Record
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.http.pages import BATCH_LIST
from portico.server.line.served import Served
from portico.server.routes.batches.stored import stored_batches
from portico.store import StoredBatch
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["BatchPageHandlers"]

USUAL, MOST = 25, 1000  # batches of a list
EXAMPLES: Final = 20  # causes of failures that an example is looked up of


class BatchPageHandlers:
    """The handlers, over what is stored."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {BATCH_LIST: {"GET": self.list}, BATCH_LIST + "/{id}": {"GET": self.get}}

    async def list(self, exchange: Exchange) -> None:
        """The newest of them; without a store why there are none."""
        limit = exchange.query.get("limit") or str(USUAL)
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= MOST):
            raise BadRequestError(f"'limit' must be a whole number from 1 to {MOST}.", param="limit")
        try:
            store = stored_batches(self._served)
        except NotFoundError as error:
            await exchange.respond_json({"batches": None, "why": error.message})
            return
        most = int(limit)
        found = [one for kind in KINDS for one in await store.batches.owned(CALLER.get(), kind, limit=most + 1)]
        found.sort(key=lambda one: (one.created_at, one.id), reverse=True)
        heads = [await _shown(store, one, Record.of(one.body)) for one in found[:most]]
        await exchange.respond_json({"batches": heads, "has_more": len(found) > most, "now": time.time()})

    async def get(self, exchange: Exchange) -> None:
        """One of them, with all that is known of it."""
        store, id = stored_batches(self._served), exchange.path_params["id"]
        batch = await store.batches.get(CALLER.get(), id)
        if batch is None:
            raise NotFoundError(f"There is no batch '{id[:64]}'.")
        record = Record.of(batch.body)
        head = await _shown(store, batch, record)
        await exchange.respond_json(detailed(head, record, await _examples(store, id)) | {"now": time.time()})


async def _shown(store: Store, batch: StoredBatch, record: Record) -> dict[str, Any]:
    runs = record.in_progress_at is not None and record.counts is None
    running = await store.batches.counts(batch.id) if runs else {}
    failures = {one.cause: one.count for one in await store.batches.failures(batch.id)} if runs else {}
    return shown(batch.id, batch.kind, batch.created_at, batch.status, record, running, failures)


async def _examples(store: Store, id: str) -> list[Example]:
    found = []
    for one in (await store.batches.failures(id))[:EXAMPLES]:
        for line in await store.batches.results(id, after=one.first - 1, limit=1):
            if line.result is not None:
                found.append(Example(one.cause, *told_by(line.result)))
    return found
