"""A batch that is to stop at any moment comes to rest."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from portico.protocols.batches.record import Record
from portico.server.batches.job import Job, Stop
from portico.server.batches.slots import Slots
from portico.server.http.exchange import Receive, Scope, Send
from portico.server.observe.metrics import Metrics
from portico.store import NewLine, StoredBatch, open_store
from support.wait import SAFETY

LINES = 3
OWNER = "somebody"


async def draining(scope: Scope, receive: Receive, send: Send) -> None:
    """What a server that is about to end says to every line."""
    head = [(b"retry-after", b"1"), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 503, "headers": head})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.mark.parametrize("why", ["given back", "cancelled", "expired"])
@pytest.mark.parametrize("turns", range(4))
async def test_a_line_that_has_just_begun_is_left(
    why: Stop, turns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to stop so many turns of the loop after its first line was begun, even before that has made a step."""
    store = open_store(str(tmp_path / "a.db"))
    await store.start()
    try:
        now = int(time.time())
        record = Record(endpoint="/v1/completions", expires_at=now + 3600, total=LINES)
        batch = StoredBatch(
            id="b", owner=OWNER, kind="openai", created_at=now, status="in_progress", body=record.kept()
        )
        line = {"custom_id": "a", "method": "POST", "url": record.endpoint, "body": {"prompt": "x"}}
        await store.batches.create(batch, [NewLine(n, n, json.dumps(line).encode()) for n in range(LINES)])
        assert await store.batches.claim([OWNER]) is not None
        job = Job(batch, store, draining, Slots(LINES, lambda: 0), Metrics())
        create_task = asyncio.create_task

        async def soon() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            job.stop(why)

        def created(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            task = create_task(work)
            if work.__name__ == Job._run.__name__ and job._stop is None:
                job.stop(why) if not turns else create_task(soon())
            return task

        monkeypatch.setattr(asyncio, "create_task", created)
        running = create_task(job.run())
        done, _ = await asyncio.wait({running}, timeout=SAFETY)
        job.stop("given back")
        await running
        assert done, "it goes on asking"
        counts = await store.batches.counts("b")
        assert counts == ({None: LINES} if why == "given back" else {why: LINES})
    finally:
        monkeypatch.undo()
        await store.close()
