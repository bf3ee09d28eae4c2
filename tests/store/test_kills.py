"""Processes that die. They are real ones, killed by the system without a warning."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import delete, select, update

from portico.errors import StoreError
from portico.store import Store, leases, open_store
from portico.store.tables import processes, responses
from support.processes import state
from support.store_writer import OWNER, made, writing
from support.wait import eventually, until

ROUNDS = 8


async def test_nothing_told_is_missing_after_a_kill_at_any_moment(where: str) -> None:
    """Two writers at a time are killed after so many words and so many milliseconds. Then the store is opened: all that
    was told is there, whole; what ran has failed; no turn is there by half, and no lock holds."""
    draw = random.Random(where)
    ended = 0
    for round in range(ROUNDS):
        with writing(where, f"{round}x", f"{round}y") as writers:
            told = [one.next() for one in writers]  # both are up
            told += [draw.choice(writers).next() for _ in range(draw.randrange(60))]
            await asyncio.sleep(draw.random() * 0.03)
            for one in writers:
                one.kill()
            told += [told for one in writers for told in one.rest()]
        store = open_store(where)
        await store.start()
        try:
            ended += await _check(store, told)
        finally:
            await store.close()
    assert ended > 0


async def _check(store: Store, told: list[tuple[Any, ...]]) -> int:
    """How many had come to their end."""
    begun = {id for what, id, *_ in told if what == "put"}
    events = {id: rest[0] for what, id, *rest in told if what == "events"}
    done = {id for what, id, *_ in told if what == "done"}
    turns: dict[str, list[str]] = {id: [] for what, id, *_ in told if what == "locked"}
    for id in begun:
        found = await store.response(OWNER, id)
        if id in done:
            assert found == made(id)
        else:
            assert found is not None
            assert found.status in ("completed", "failed")
            assert found.body["status"] == found.status
            assert found.status == "completed" or found.body["error"]["code"] == "server_error"
        kept = await store.events(OWNER, id, -1)
        assert kept == [(n, b"event %d" % n) for n in range(len(kept))]
        assert len(kept) >= events.get(id, 0)
    for what, id, *rest in told:
        if what == "turn":
            assert await store.response(OWNER, id) == replace(made(id), background=False, conversation_id=rest[0])
            turns[rest[0]].append(id)
    for conversation, ids in turns.items():
        items = [one.id for one in await store.items(OWNER, conversation)]
        expected = [item for id in ids for item in (f"in_{id}", f"out_{id}")]
        assert items[: len(expected)] == expected
        assert len(items) - len(expected) in (0, 2)  # one turn more may have been committed and not been told
        assert [id.removeprefix("in_") for id in items[::2]] == [id.removeprefix("out_") for id in items[1::2]]
        assert await store.lock_conversation(OWNER, conversation, "resp_next")
    return len(done) + sum(map(len, turns.values()))


async def test_who_asks_is_told_that_it_failed(store: Store, where: str) -> None:
    """Without a restart: another process lives on, and is asked. Also while the dead one's remains lie about."""
    with writing(where, "z") as (one,):
        told = [one.next() for _ in range(40)]
        os.kill(one.pid, signal.SIGKILL)
        until(lambda: state(one.pid) in ("Z", ""))
        await _check(store, [*told, *one.rest()])


async def test_a_process_on_another_machine_is_dead_when_it_is_silent(
    store: Store, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_place", lambda: "elsewhere")
    other = open_store(where)
    await other.start()
    one = replace(made("resp_far"), status="in_progress")
    await other.put_response(one)
    conversation = await store.create_conversation(OWNER, {}, [])
    assert await other.lock_conversation(OWNER, conversation.id, one.id)
    found = await store.response(OWNER, one.id)
    assert found is not None
    assert found.status == "in_progress"
    assert not await store.lock_conversation(OWNER, conversation.id, "resp_mine")
    other._keeper.cancel()  # type: ignore[union-attr]
    silent = processes.c.beat - leases.LEASE - 1
    store.database.now(lambda c: c.execute(update(processes).where(processes.c.id == other._me.id).values(beat=silent)))
    found = await store.response(OWNER, one.id)
    assert found is not None
    assert (found.status, found.body["error"]["code"]) == ("failed", "server_error")
    assert await store.lock_conversation(OWNER, conversation.id, "resp_mine")
    # It was not dead. Its late word changes nothing, and it is among the living again.
    with pytest.raises(StoreError, match="ended"):
        await other.finish_turn(made("resp_far"), conversation.id, one.input)
    assert await store.items(OWNER, conversation.id) == []
    await other.database.write(leases.beat, other._me)
    again = replace(made("resp_again"), status="in_progress")
    await other.put_response(again)
    assert await store.response(OWNER, again.id) == again
    await other.close()
    found = await store.response(OWNER, again.id)
    assert found is not None
    assert found.status == "failed"


async def test_whoever_lives_sees_to_it_unasked(store: Store, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    other = open_store(where)
    await other.start()
    one = replace(made("resp_left"), status="queued")
    await store.put_response(one)
    store._keeper.cancel()  # type: ignore[union-attr]  # as if its process were dead
    await asyncio.wait([store._keeper])  # type: ignore[list-item]
    store.database.now(lambda c: c.execute(delete(processes).where(processes.c.id == store._me.id)))
    status = select(responses.c.status).where(responses.c.id == one.id)
    await eventually(lambda: other.database.now(lambda connection: connection.scalar(status)) == "failed")
    await other.close()


async def test_many_processes_start_at_once(where: str) -> None:
    """On a place where nothing is yet: one makes the tables, all go on."""
    with writing(where, *(f"s{n}" for n in range(5))) as writers:
        assert {one.next()[0] for one in writers} <= {"put", "locked"}
