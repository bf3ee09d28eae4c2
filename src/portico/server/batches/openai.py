"""OpenAI's batches as the store has them: made of a file, and shown as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.protocols.batches.openai import shown
from portico.protocols.batches.record import Record
from portico.protocols.files import new_id
from portico.store import StoredBatch

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["KIND", "new_batch", "shown_now"]

KIND: Final = "openai"


def new_batch(owner: str, file: str, record: Record, now: float) -> StoredBatch:
    """One whose lines are to be read from the owner's file with this id."""
    return StoredBatch(
        id=new_id("batch_", now),
        owner=owner,
        kind=KIND,
        created_at=int(now),
        status="validating",
        reads=file,
        body=record.kept(),
    )


async def shown_now(store: Store, batch: StoredBatch) -> dict[str, Any]:
    """The Batch, with how its lines have come out so far. Raises ``StoreError``."""
    record = Record.of(batch.body)
    running = {} if record.counts is not None else await store.batches.counts(batch.id)
    return shown(batch.id, batch.created_at, batch.status, record, running)
