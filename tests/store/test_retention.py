"""What is too old, too many or too much goes, the oldest first; what runs stays."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select, update

from portico.store import NewLine, Retention, Store, StoredBatch, StoredFile, StoredResponse, open_store, retention
from portico.store.retention import PIECE, sweep
from portico.store.tables import conversation_items, conversations, events, files, response_items, responses
from support.store_writer import OWNER, made

DAY = 86400


@pytest.fixture
async def store(where: str) -> AsyncIterator[Store]:
    """A store that keeps everything by itself, whenever it looks: the tests sweep."""
    store = open_store(where, retention=Retention(max_age=None))
    await store.start()
    yield store
    await store.close()


def aged(id: str, days: float, **more: Any) -> StoredResponse:
    return replace(made(id), created_at=int(time.time() - days * DAY), **more)


async def left(store: Store, **bounds: Any) -> set[str]:
    """The responses that are left when all is swept."""
    while store.database.now(lambda connection: sweep(connection, Retention(**bounds))):
        pass
    return set(store.database.now(lambda connection: connection.scalars(select(responses.c.id)).all()))


async def test_by_age(store: Store) -> None:
    for number in range(10):
        await store.put_response(aged(f"resp_{number}", number))
    await store.put_response(aged("resp_runs", 9, status="in_progress"))
    old, used = [await store.create_conversation(OWNER, {}, [{"id": "msg_x"}]) for _ in range(2)]
    long_ago = int(time.time() - 9 * DAY)
    aged_rows = update(conversations).values(used_at=long_ago)
    store.database.now(lambda connection: connection.execute(aged_rows))
    assert await store.add_items(OWNER, used.id, [{"id": "msg_y"}])
    assert await left(store, max_age=4.5) == {*(f"resp_{n}" for n in range(5)), "resp_runs"}
    assert await store.conversation(OWNER, old.id) is None
    assert [one.id for one in await store.items(OWNER, used.id)] == ["msg_x", "msg_y"]
    assert len(await left(store, max_age=None)) == 6
    assert await left(store, max_age=0.001) == {"resp_0", "resp_runs"}


async def test_by_count(store: Store) -> None:
    for number in range(10):
        await store.put_response(aged(f"resp_{number}", number / 100))
    assert await left(store, max_responses=10) == {f"resp_{n}" for n in range(10)}
    assert await left(store, max_responses=4) == {f"resp_{n}" for n in range(4)}


async def test_by_bytes(store: Store) -> None:
    """Responses and conversations count together, and the oldest of either go."""
    large = "x" * 10_000
    for number in range(10):
        one = aged(f"resp_{number}", number / 100)
        await store.put_response(replace(one, body={"large": large}))
    conversation = await store.create_conversation(OWNER, {}, [{"id": "msg_a", "text": large}])
    assert len(await left(store, max_bytes=1_000_000)) == 10
    newest = select(responses.c.size).order_by(responses.c.created_at.desc()).limit(5)
    bound = store.database.now(lambda c: sum(c.scalars(newest)) + c.scalar(select(conversations.c.size)))
    assert await left(store, max_bytes=bound) == {f"resp_{n}" for n in range(5)}
    assert await store.conversation(OWNER, conversation.id) == conversation
    assert await left(store, max_bytes=1) == set()
    assert await store.conversation(OWNER, conversation.id) is None


async def test_files_and_batches_go_too(store: Store) -> None:
    """Files when they expire or are old, batches when they are old and have ended."""
    now = int(time.time())

    async def data() -> AsyncIterator[bytes]:
        yield b"x" * 1000

    for id, age, expires in (("new", 0, None), ("old", 9, None), ("expired", 0, now - 1), ("expires", 0, now + DAY)):
        facts = {"filename": "a", "purpose": "batch", "created_at": now - age * DAY, "expires_at": expires}
        await store.files.write(StoredFile(id=id, owner=OWNER, **facts), data())
    for id, age in (("old", 9), ("older", 10), ("new", 0)):
        one = StoredBatch(id=id, owner=OWNER, kind="openai", created_at=now - age * DAY, status="new")
        await store.batches.create(one, [NewLine(0, 0, b"a line")])
    for id in ("older", "old"):
        claimed = await store.batches.claim([OWNER])
        assert claimed is not None
        if id == "older":
            assert await store.batches.end(claimed)
    await left(store, max_age=5)
    assert {one.id for one in await store.files.owned(OWNER)} == {"new", "expires"}
    assert {one.id for one in await store.batches.owned(OWNER, "openai")} == {"old", "new"}  # the old one runs
    await left(store, max_bytes=1500)
    assert len(await store.files.owned(OWNER)) == 1


async def test_what_is_being_written_stays_though_it_has_expired(store: Store) -> None:
    late = StoredFile(id="late", owner=OWNER, created_at=0, filename="a", purpose="batch", expires_at=1)

    async def data() -> AsyncIterator[bytes]:
        await left(store, max_age=1, max_bytes=0)
        yield b"x" * 1000

    await store.files.write(late, data())
    written = select(files.c.size).where(files.c.id == "late")
    assert store.database.now(lambda connection: connection.scalar(written)) == 1000
    await left(store, max_age=None)
    assert store.database.now(lambda connection: connection.scalar(written)) is None


async def test_sizes_add_up(store: Store) -> None:
    """What a conversation is said to take is what its items and metadata take, whatever was done to it."""
    made = await store.create_conversation(OWNER, {"a": "b"}, [{"id": f"msg_{n}", "text": "x" * n} for n in range(20)])
    await store.add_items(OWNER, made.id, [{"id": "msg_more", "text": "☃" * 1000}])
    await store.update_conversation(OWNER, made.id, {"a": "b" * 500})
    for number in range(0, 20, 3):
        await store.delete_item(OWNER, made.id, f"msg_{number}")

    def told_and_true(connection: Any) -> tuple[int, int]:
        told, own = connection.execute(select(conversations.c.size, func.length(conversations.c.content))).one()
        return told, own + connection.scalar(select(func.sum(func.length(conversation_items.c.content))))

    told, true = store.database.now(told_and_true)
    assert told == true


async def test_pieces_are_small_and_nothing_is_left_of_what_is_deleted(store: Store) -> None:
    many = PIECE * 2 + 30
    for number in range(many):
        await store.put_response(aged(f"resp_{number}", 40))
    pieces = 0
    while True:
        before = store.database.now(lambda connection: connection.scalar(select(func.count()).select_from(responses)))
        more = store.database.now(lambda connection: sweep(connection, Retention()))
        after = store.database.now(lambda connection: connection.scalar(select(func.count()).select_from(responses)))
        assert 0 <= before - after <= PIECE
        pieces += 1
        if not more:
            break
    assert pieces == 3
    for table in (responses, response_items, events):
        assert store.database.now(lambda connection: connection.scalar(select(func.count()).select_from(table))) == 0  # noqa: B023


async def test_events_outlast_their_response_by_minutes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for id, status in (("resp_ended", "completed"), ("resp_runs", "in_progress")):
        await store.put_response(aged(id, 0, status="in_progress"))
        await store.add_events(id, 0, [b"x"])
        await store.put_response(aged(id, 0, status=status))
    await left(store)
    assert await store.events(OWNER, "resp_ended", -1) == [(0, b"x")]
    monkeypatch.setattr(retention, "EVENTS_KEPT", -1.0)
    await left(store)
    assert await store.events(OWNER, "resp_ended", -1) == []
    assert await store.events(OWNER, "resp_runs", -1) == [(0, b"x")]
    assert await store.response(OWNER, "resp_ended") is not None
