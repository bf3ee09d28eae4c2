"""A batch that runs without a server: the same application and the same runner, and no socket.

What is done of it lies in a store of its own, in a directory, until the results are written. So one that was killed
goes on where it was, as it would with a server.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from portico.config import Settings
from portico.errors import BadRequestError
from portico.protocols.batches.record import Record
from portico.protocols.files import new_id
from portico.server.batches.openai import KIND, new_batch, shown_now
from portico.server.batches.results import results
from portico.server.batches.runner import Runner
from portico.server.http.app import build_app
from portico.server.http.auth import Keys
from portico.server.http.gate import Gate
from portico.server.observe.metrics import Metrics
from portico.server.process.assemble import assemble, release
from portico.server.routes.paths import routes
from portico.store import StoredBatch, StoredFile

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["Alone", "alone"]

OWNER: Final = ""
FOREVER: Final = 100 * 365 * 86400  # seconds
LOOK: Final = 0.2  # seconds between two looks at how it goes
PIECE: Final = 256 << 10  # bytes


class Alone:
    """One batch, in a store that is nobody else's."""

    def __init__(self, store: Store, batch: StoredBatch) -> None:
        self._store = store
        self._batch = batch

    async def ended(self, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """The batch as OpenAI's API shows it, when it has ended; ``show`` gets it now and then."""
        while True:
            found = await self._store.batches.get(OWNER, self._batch.id)
            assert found is not None
            batch = await shown_now(self._store, found)
            show(batch)
            if found.ended:
                return batch
            await asyncio.sleep(LOOK)

    async def results(self) -> AsyncIterator[bytes]:
        """A line for each of its lines, in their order."""
        async for line in results(self._store, self._batch):
            yield line


@asynccontextmanager
async def alone(settings: Settings, file: Path, endpoint: str, directory: Path) -> AsyncIterator[Alone]:
    """Run the lines of ``file`` with what ``settings`` serve, while the block runs; ``directory`` is for what is done.

    Raises ``BadRequestError`` where the directory has the work of another file or model, and what ``assemble`` raises.
    """
    own = settings.model_copy(update={"store": SecretStr(str(directory / "batch.db"))})
    metrics = Metrics()
    served = await assemble(own, metrics)
    store = served.store
    assert store is not None
    model = ",".join(one.model for one in settings.each_model)
    try:
        batch = await _begun(store, file, endpoint, model, directory)
        app = build_app(
            routes(served, metrics), Keys(()), Gate(settings.in_flight), max_body=settings.max_body, host=None
        )
        runner = Runner(store, app, served, lambda: [OWNER], settings.batch_lines, metrics)
        runner.start()
        try:
            yield Alone(store, batch)
        finally:
            await runner.close()
    finally:
        await release(served)


async def _begun(store: Store, file: Path, endpoint: str, model: str, directory: Path) -> StoredBatch:
    """The batch of this file: as it was left, or a new one."""
    wanted = {"file": await asyncio.to_thread(_digest, file), "model": model, "endpoint": endpoint}
    for found in await store.batches.owned(OWNER, KIND, limit=1):
        if Record.of(found.body).metadata != wanted:
            raise BadRequestError(
                f"{directory} has the work on another file, or with another model. Go on with that, remove it, or "
                "choose another --out.",
                param="out",
            )
        return found
    now = time.time()
    created = int(now)
    kept = StoredFile(id=new_id("file-", now), owner=OWNER, created_at=created, filename=file.name, purpose="batch")
    await store.files.write(kept, _pieces(file))
    record = Record(endpoint=endpoint, expires_at=created + FOREVER, input_file_id=kept.id, metadata=wanted)
    batch = new_batch(OWNER, kept.id, record, now)
    await store.batches.create(batch)
    return batch


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as content:
        while piece := await asyncio.to_thread(content.read, PIECE):
            yield piece


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while piece := content.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
