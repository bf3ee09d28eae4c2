"""What the page of batches shows: those of the key that asks, of both APIs, as they are now.

A batch that runs is counted in the store, by an index; one that waits or has ended is not, so that a page which asks
every other second costs little.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from portico.errors import NotFoundError
from portico.protocols.batches.failures import told_by
from portico.protocols.batches.kinds import KINDS
from portico.protocols.batches.page import Example, detailed, shown
from portico.protocols.batches.record import Record
from portico.protocols.paging import limit_of
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.http.pages import BATCH_LIST
from portico.server.line.served import Served
from portico.server.routes.batches.stored import stored_batches
from portico.store import LineFailures, StoredBatch
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
        most = limit_of(exchange.query, USUAL, MOST)
        try:
            store = stored_batches(self._served)
        except NotFoundError as error:
            await exchange.respond_json({"batches": None, "why": error.message})
            return
        found = [one for kind in KINDS for one in await store.batches.owned(CALLER.get(), kind, limit=most + 1)]
        found.sort(key=lambda one: (one.created_at, one.id), reverse=True)
        heads = [await _listed(store, one) for one in found[:most]]
        await exchange.respond_json({"batches": heads, "has_more": len(found) > most, "now": time.time()})

    async def get(self, exchange: Exchange) -> None:
        """One of them, with all that is known of it."""
        store, id = stored_batches(self._served), exchange.path_params["id"]
        batch = await store.batches.get(CALLER.get(), id)
        if batch is None:
            raise NotFoundError(f"There is no batch '{id[:64]}'.")
        record, failures = Record.of(batch.body), await store.batches.failures(id)
        head = await _shown(store, batch, record, failures)
        await exchange.respond_json(detailed(head, record, await _examples(store, id, failures)) | {"now": time.time()})


async def _listed(store: Store, batch: StoredBatch) -> dict[str, Any]:
    record = Record.of(batch.body)
    return await _shown(store, batch, record, await store.batches.failures(batch.id) if _runs(record) else ())


async def _shown(store: Store, batch: StoredBatch, record: Record, failures: Sequence[LineFailures]) -> dict[str, Any]:
    running = await store.batches.counts(batch.id) if _runs(record) else {}
    causes = {one.cause: one.count for one in failures}
    return shown(batch.id, batch.kind, batch.created_at, batch.status, record, running, causes)


def _runs(record: Record) -> bool:
    """Whether its lines are counted in the store, and not in the record yet."""
    return record.in_progress_at is not None and record.counts is None


async def _examples(store: Store, id: str, failures: Sequence[LineFailures]) -> list[Example]:
    found = []
    for one in failures[:EXAMPLES]:
        for line in await store.batches.results(id, after=one.first - 1, limit=1):
            if line.result is not None:
                found.append(Example(one.cause, *told_by(line.result)))
    return found
