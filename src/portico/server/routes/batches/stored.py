"""What the routes of both APIs ask of the batches that are kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from portico.protocols.batches.record import OPEN
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.store import StoredBatch
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["begin_cancelling", "named_batch", "stored_batches"]


def stored_batches(served: Served) -> Store:
    """The server's store. Raises ``NotFoundError`` where it has none."""
    return served.store_for("This server runs no batches (it runs with --store none): start it with --store FILE.")


async def named_batch(store: Store, exchange: Exchange, kind: str) -> StoredBatch | None:
    """The client's batch that the path names, if it was made by the API of that ``kind``."""
    found = await store.batches.get(CALLER.get(), exchange.path_params["id"])
    return found if found is not None and found.kind == kind else None


async def begin_cancelling(store: Store, batch: StoredBatch) -> None:
    """What runs is left, what has come out is kept; one that has ended stays as it is."""
    await store.batches.change(batch.owner, batch.id, OPEN, "cancelling", {"cancelling_at": int(time.time())})
