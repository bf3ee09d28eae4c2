"""What is put is there, whole, for its owner and for nobody else."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from portico.errors import NotFoundError, StoreError
from portico.store import BrokenChainError, Store, StoredResponse, open_store
from portico.store.coding import dumps, key, loads
from support.effort import examples

ALICE, BOB = "a" * 64, "b" * 64
_count = itertools.count()


def item(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"id": f"msg_{next(_count)}", "type": "message", "role": "user", "content": text, **more}


def response(**more: Any) -> StoredResponse:
    """A response with an item on either side; its body repeats the output, as the API's does."""
    id, output = more.pop("id", f"resp_{next(_count)}"), more.pop("output", None) or [item("answer")]
    status = more.get("status", "completed")
    facts: dict[str, Any] = {
        "owner": ALICE,
        "created_at": 1_800_000_000,
        "status": status,
        "model": "tiny",
        "input": [item()],
        "output": output,
        "body": {"id": id, "status": status, "error": None, "output": output, "usage": {"total_tokens": 7}},
    }
    return StoredResponse(id=id, **{**facts, **more})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(JSON | ANY_TEXT | st.dictionaries(ANY_TEXT, st.integers(-(2**80), 2**80)))
def test_any_json_comes_back(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert type(loads(dumps(value))) is type(value)


@given(ANY_TEXT, ANY_TEXT)
def test_a_key_is_one_ids_alone_and_fits_a_column(one: str, other: str) -> None:
    assert (key(one) == key(other)) == (one == other)
    assert key(one).isascii()
    assert "\0" not in key(one)
    assert len(key(one)) <= 128


async def test_a_response_comes_back_whole(store: Store) -> None:
    for made in (
        response(),
        response(input=[], output=[], body={}),
        response(previous_id="resp_of_before", conversation_id="conv_x", background=True, status="incomplete"),
        response(input=[item("\0 \ud800 ☃ " + "x" * 100_000)], body={"big": 2**70, "nested": [{"a": [1.5, None]}]}),
        response(owner=""),
    ):
        await store.put_response(made)
        assert await store.response(made.owner, made.id) == made


async def test_nobody_else_sees_it(store: Store) -> None:
    made = response(status="in_progress", background=True)
    await store.put_response(made)
    await store.add_events(made.id, 0, [b"one"])
    conversation = await store.create_conversation(ALICE, {"topic": "x"}, [item(id="msg_own")])
    (given_item,) = made.input
    for other in (BOB, ""):
        assert await store.response(other, made.id) is None
        with pytest.raises(BrokenChainError):
            await store.chain(other, made.id)
        assert await store.item(other, given_item["id"]) is None
        assert await store.item(other, "msg_own") is None
        assert not await store.ask_cancel(other, made.id)
        assert await store.events(other, made.id, -1) == []
        assert not await store.delete_response(other, made.id)
        assert await store.conversation(other, conversation.id) is None
        assert await store.update_conversation(other, conversation.id, {}) is None
        assert not await store.add_items(other, conversation.id, [item()])
        assert await store.items(other, conversation.id) == []
        assert await store.conversation_item(other, conversation.id, "msg_own") is None
        assert not await store.delete_item(other, conversation.id, "msg_own")
        assert not await store.lock_conversation(other, conversation.id, "resp_z")
        assert not await store.delete_conversation(other, conversation.id)
        with pytest.raises(StoreError):
            await store.put_response(replace(made, owner=other, status="completed"))
    assert await store.response(ALICE, made.id) == made
    assert await store.cancels([made.id]) == set()
    theirs = response(owner=BOB, previous_id=made.id)
    await store.put_response(theirs)
    with pytest.raises(BrokenChainError, match=made.id):
        await store.chain(BOB, theirs.id)
    assert [one.id for one in await store.items(ALICE, conversation.id)] == ["msg_own"]
    found = await store.conversation(ALICE, conversation.id)
    assert found is not None
    assert found.metadata == {"topic": "x"}


async def test_a_chain_is_told_from_its_beginning(store: Store) -> None:
    line = [response(id=f"resp_c{n}", previous_id=f"resp_c{n - 1}" if n else None) for n in range(30)]
    for one in line:
        await store.put_response(one)
    branch = response(previous_id="resp_c10")
    await store.put_response(branch)
    line, branch = [replace(one, body={}) for one in line], replace(branch, body={})
    assert await store.chain(ALICE, "resp_c29") == line
    assert await store.chain(ALICE, branch.id) == [*line[:11], branch]
    assert await store.chain(ALICE, "resp_c29", limit=5) == line[-5:]
    assert await store.delete_response(ALICE, "resp_c4")
    for last in (line[-1].id, branch.id, "resp_c5"):
        with pytest.raises(BrokenChainError) as broken:
            await store.chain(ALICE, last)
        assert broken.value.id == "resp_c4"
    assert await store.chain(ALICE, "resp_c3") == line[:4]
    with pytest.raises(BrokenChainError, match="resp_nowhere"):
        await store.chain(ALICE, "resp_nowhere")


async def test_items_are_found_by_their_ids(store: Store) -> None:
    made = response()
    again = response(input=[*made.input, *made.output, item("more")], created_at=made.created_at + 1)
    for one in (made, again):
        await store.put_response(one)
    for known in (*again.input, *again.output):
        assert await store.item(ALICE, known["id"]) == known
    assert await store.delete_response(ALICE, again.id)
    assert await store.item(ALICE, made.input[0]["id"]) == made.input[0]
    assert await store.item(ALICE, again.input[-1]["id"]) is None
    assert not await store.delete_response(ALICE, again.id)


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "incomplete"])
async def test_what_has_ended_stays_as_it_is(store: Store, end: str) -> None:
    made = response(status="queued", background=True)
    for status in ("queued", "in_progress", "in_progress", end, end):
        await store.put_response(replace(made, status=status))
    for late in {"queued", "completed", "failed"} - {end}:
        with pytest.raises(StoreError, match="ended"):
            await store.put_response(replace(made, status=late))
    found = await store.response(ALICE, made.id)
    assert found is not None
    assert found.status == end
    assert not await store.ask_cancel(ALICE, made.id)


async def test_what_was_deleted_while_it_ran_stays_deleted(store: Store) -> None:
    made = response(status="in_progress", background=True)
    await store.put_response(made)
    assert await store.cancels([made.id]) == set()
    assert await store.delete_response(ALICE, made.id)
    assert await store.cancels([made.id]) == {made.id}
    await store.add_events(made.id, 0, [b"late"])
    await store.put_response(replace(made, status="completed"))
    assert await store.response(ALICE, made.id) is None


async def test_a_cancel_reaches_another_process(store: Store, where: str) -> None:
    other = open_store(where)
    await other.start()
    try:
        made, quiet = response(status="in_progress"), response(status="queued")
        await store.put_response(made)
        await store.put_response(quiet)
        assert await other.ask_cancel(ALICE, made.id)
        assert await store.cancels([made.id, quiet.id]) == {made.id}
    finally:
        await other.close()


async def test_events_are_read_behind_any_number(store: Store, where: str) -> None:
    made = response(status="in_progress", background=True)
    await store.put_response(made)
    events = [b"event %d \x00\xff" % n for n in range(100)]
    for first in range(0, 100, 7):
        await store.add_events(made.id, first, events[first : first + 7])
        await store.add_events(made.id, first, events[first : first + 7])  # told again after a doubtful commit
    await store.add_events(made.id, 100, [])
    reader = open_store(where)
    await reader.start()
    try:
        for after in (-1, 0, 41, 98, 99, 1000):
            assert await reader.events(ALICE, made.id, after) == list(enumerate(events))[after + 1 :]
    finally:
        await reader.close()
    assert await store.delete_response(ALICE, made.id)
    assert await store.events(ALICE, made.id, -1) == []


async def test_a_conversation_is_paged_both_ways(store: Store) -> None:
    things = [item(str(n)) for n in range(25)]
    made = await store.create_conversation(ALICE, {"a": "b"}, things[:3])
    assert await store.conversation(ALICE, made.id) == made
    for start in range(3, 25, 5):
        assert await store.add_items(ALICE, made.id, things[start : start + 5])
    for order, expected in (("asc", things), ("desc", things[::-1])):
        for limit in (1, 4, 25, 100):
            seen: list[dict[str, Any]] = []
            after = None
            while page := await store.items(ALICE, made.id, after=after, limit=limit, order=order):  # type: ignore[arg-type]
                assert len(page) <= limit
                seen += [one.item for one in page]
                after = page[-1].id
            assert seen == expected
    with pytest.raises(NotFoundError):
        await store.items(ALICE, made.id, after="msg_nowhere")
    assert await store.conversation_item(ALICE, made.id, things[7]["id"]) == things[7]
    assert await store.item(ALICE, things[7]["id"]) == things[7]
    assert await store.delete_item(ALICE, made.id, things[7]["id"])
    assert not await store.delete_item(ALICE, made.id, things[7]["id"])
    assert await store.conversation_item(ALICE, made.id, things[7]["id"]) is None
    assert await store.add_items(ALICE, made.id, [things[7]])
    assert [one.item for one in await store.items(ALICE, made.id)] == [*things[:7], *things[8:], things[7]]
    renewed = await store.update_conversation(ALICE, made.id, {"c": "d"})
    assert renewed is not None
    assert renewed.metadata == {"c": "d"}
    assert renewed.created_at == made.created_at
    assert await store.delete_conversation(ALICE, made.id)
    assert await store.items(ALICE, made.id) == []
    assert await store.conversation(ALICE, made.id) is None
    assert not await store.add_items(ALICE, made.id, things)


async def test_a_turn_is_kept_in_both_places_and_unlocks(store: Store) -> None:
    conversation = await store.create_conversation(ALICE, {}, [item("before")])
    made = response(conversation_id=conversation.id)
    assert await store.lock_conversation(ALICE, conversation.id, made.id)
    assert not await store.lock_conversation(ALICE, conversation.id, "resp_second")
    await store.finish_turn(made, conversation.id, [*made.input, *made.output])
    await store.finish_turn(made, conversation.id, [*made.input, *made.output])  # told again
    assert [one.item for one in await store.items(ALICE, conversation.id)][1:] == [*made.input, *made.output]
    assert await store.lock_conversation(ALICE, conversation.id, "resp_second")
    assert await store.delete_response(ALICE, made.id)
    assert len(await store.items(ALICE, conversation.id)) == 3
    again = response(conversation_id=conversation.id)
    await store.unlock_conversation(ALICE, conversation.id, again.id)  # not its own lock
    assert not await store.lock_conversation(ALICE, conversation.id, again.id)
    assert await store.delete_conversation(ALICE, conversation.id)
    await store.finish_turn(again, conversation.id, again.input)
    assert await store.response(ALICE, again.id) == again


async def test_turns_of_many_processes_never_share_a_conversation(store: Store, where: str) -> None:
    """Three stores race for one conversation: one at a time has it, and no item is lost or doubled."""
    others = [store, open_store(where), open_store(where)]
    for other in others[1:]:
        await other.start()
    conversation = await store.create_conversation(ALICE, {}, [])
    inside, made = 0, 0

    async def turns(mine: Store) -> None:
        nonlocal inside, made
        for _ in range(10):
            one = response(conversation_id=conversation.id)
            if await mine.lock_conversation(ALICE, conversation.id, one.id):
                assert inside == 0
                inside += 1
                made += 1
                await asyncio.sleep(0)
                inside -= 1
                await mine.finish_turn(one, conversation.id, [*one.input, *one.output])

    try:
        await asyncio.gather(*(turns(other) for other in others for _ in range(3)))
        found = await store.items(ALICE, conversation.id)
        assert len(found) == 2 * made > 0
        assert [one.position for one in found] == list(range(len(found)))
    finally:
        for other in others[1:]:
            await other.close()


async def test_many_writers_wait_for_each_other(store: Store, where: str) -> None:
    other = open_store(where)
    await other.start()
    try:
        made = [response() for _ in range(60)]
        await asyncio.gather(*(one.put_response(r) for one, r in zip([store, other] * 30, made, strict=True)))
        for one in made:
            assert await other.response(ALICE, one.id) == one
    finally:
        await other.close()


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT)
def test_ids_of_any_spelling_are_asked_for(store_of_a_module: Any, text: str) -> None:
    """What comes out of a URL is no reason to fail: it is found if it was put, else it is not there."""
    run, store = store_of_a_module
    made = response(id=text, previous_id=text, conversation_id=text, input=[{"id": text, "type": "x"}])

    async def ask() -> None:
        assert await store.response(BOB, text) is None
        await store.put_response(made)
        found = await store.response(ALICE, text)
        assert found is not None
        assert found.input == made.input
        assert await store.item(ALICE, text) == {"id": text, "type": "x"}
        assert await store.conversation(ALICE, text) is None
        assert await store.items(ALICE, text, after=None) == []
        assert await store.events(ALICE, text, -1) == []
        assert await store.cancels([text]) == set()
        assert await store.delete_response(ALICE, text)

    run(ask())


@pytest.fixture
def store_of_a_module(where: str) -> Any:
    loop = asyncio.new_event_loop()
    store = open_store(where)
    loop.run_until_complete(store.start())
    yield loop.run_until_complete, store
    loop.run_until_complete(store.close())
    loop.close()


def test_a_body_is_read_by_people_too() -> None:
    """Bytes in a column are plain JSON."""
    assert json.loads(dumps({"a": [1, "☃"]})) == {"a": [1, "☃"]}
