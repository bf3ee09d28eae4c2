"""Works that come together share a transaction, and nothing else: each is kept, refused or left out on its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, Transaction, insert

from portico.errors import StoreError
from portico.store import Store
from portico.store.tables import keys
from portico.threads import MOST
from support.store_writer import OWNER, made
from support.wait import SAFETY

MANY = 5 * MOST + 7  # more than a queue of threads takes


@asynccontextmanager
async def busy(store: Store) -> AsyncIterator[Callable[[], None]]:
    """The store is at work until what this gives is called; what comes meanwhile waits."""
    begun, go = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        begun.set()
        assert go.wait(SAFETY)

    working = asyncio.create_task(store.database.write(work))
    await asyncio.to_thread(begun.wait, SAFETY)
    try:
        yield go.set
    finally:
        go.set()
        await working


async def test_a_burst_is_kept_whole_in_few_transactions(store: Store) -> None:
    seen: list[Transaction | None] = []

    def look(connection: Connection) -> None:
        seen.append(connection.get_transaction())

    ids = [f"resp_{n}" for n in range(MANY)]
    async with busy(store) as go:
        waiting = [call for id in ids for call in (store.put_response(made(id)), store.database.write(look))]
        tasks = [asyncio.create_task(one) for one in waiting]
        await asyncio.sleep(0)
        go()
        await asyncio.gather(*tasks)
    assert len({id(one) for one in seen}) <= -(-2 * MANY // MOST) + 1
    assert [one.id for one in [await store.response(OWNER, id) for id in ids] if one is not None] == ids


async def test_what_raises_takes_nothing_else_with_it(store: Store) -> None:
    def wrong(connection: Connection) -> None:
        connection.execute(insert(keys).values(name="never", hash="never", content=b"{}"))
        raise LookupError("wrong")

    ended = made("resp_ended")
    await store.put_response(ended)
    async with busy(store) as go:
        good = [asyncio.create_task(store.put_response(made(f"resp_{n}"))) for n in range(5)]
        raising = [asyncio.create_task(store.database.write(wrong)) for _ in range(2)]
        other = asyncio.create_task(store.put_response(replace(ended, status="failed")))
        left_out = asyncio.create_task(store.put_response(made("resp_left_out")))
        await asyncio.sleep(0)
        left_out.cancel()
        await asyncio.wait([left_out])
        go()
        await asyncio.gather(*good)
    for one in raising:
        with pytest.raises(LookupError, match="wrong"):
            await one
    with pytest.raises(StoreError, match="stays as it is"):
        await other
    assert [await store.response(OWNER, f"resp_{n}") for n in range(5)] == [made(f"resp_{n}") for n in range(5)]
    assert await store.response(OWNER, "resp_left_out") is None
    assert await store.keys() == []
