"""A server that ends: what is over by then is kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from portico.server.line.endings import Endings
from portico.store import Store, StoredResponse, open_store
from support.server import running_server
from support.wait import SAFETY


def test_what_ends_in_the_drain_is_kept_with_its_events(tmp_path: Path, smollm2_path: Path) -> None:
    script, database = tmp_path / "answers.jsonl", tmp_path / "a.db"
    script.write_text(json.dumps({"text": "word " * 40}) + "\n")
    answers = (smollm2_path, "--engine", f"replay:{script}", "--replay-rate", "20", "--drain-timeout", "600")
    body = {"input": "Hi", "background": True}
    with running_server(*answers, "--store", database) as server:
        made = [httpx.post(f"{server.base_url}/responses", json=body, timeout=SAFETY).json()["id"] for _ in range(3)]
        assert server.stop() == 0

    async def read() -> None:
        store = open_store(str(database))
        await store.start()
        try:
            for id in made:
                await _check(store, id)
        finally:
            await store.close()

    asyncio.run(read())


async def _check(store: Store, id: str) -> None:
    found = await store.response("", id)
    assert isinstance(found, StoredResponse)
    assert found.status == "completed"
    events = await store.events("", id, 0)
    assert [number for number, _ in events] == list(range(1, len(events) + 1))
    last: Any = json.loads(events[-1][1].partition(b"data: ")[2])
    assert (last["type"], last["response"]) == ("response.completed", found.body)


async def test_endings_are_waited_for_as_long_as_there_is_time() -> None:
    endings = Endings()
    going, done = asyncio.Event(), []

    async def work(name: str) -> None:
        await going.wait()
        done.append(name)
        if name == "first":
            endings.begin(work("second"))

    endings.begin(work("first"))
    assert await endings.wait(0.0) == 1
    assert await endings.wait(0.01) == 1
    going.set()
    assert await endings.wait(SAFETY) == 0
    assert done == ["first", "second"]
