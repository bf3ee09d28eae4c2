"""Files and batches: whole or not at all, one result a line, whoever dies."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select

from portico.errors import NotFoundError
from portico.store import LineFailures, NewLine, NewResult, Retention, Store, StoredBatch, StoredFile, open_store
from portico.store.files import CHUNK
from portico.store.retention import sweep
from portico.store.tables import batch_lines, batches, file_chunks, files
from support.store_writer import OWNER, Writer, run_batches, writing

OTHER = "b" * 64
LINES = 30
NOW = int(time.time())  # what is old is swept


def file(id: str, **more: Any) -> StoredFile:
    return StoredFile(
        **{"id": id, "owner": OWNER, "created_at": NOW, "filename": "a\0/../☃", "purpose": "batch", **more}
    )


def batch(id: str, **more: Any) -> StoredBatch:
    return StoredBatch(**{"id": id, "owner": OWNER, "kind": "openai", "created_at": NOW, "status": "new", **more})


def asked(batch: str, number: int) -> bytes:
    return b'{"line":%d,"of":"%b"}' % (number, batch.encode())


async def pieces(*parts: bytes, fault: Exception | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if fault is not None:
        raise fault


def rows(store: Store, table: Any) -> int:
    return store.database.outside(lambda connection: connection.scalar(select(func.count()).select_from(table))) or 0


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17])
async def test_a_file_comes_back_whatever_its_pieces(store: Store, size: int) -> None:
    data = random.Random(size).randbytes(size)
    for cut in (1 + size // 3, 1 << 30):
        parts = [data[at : at + cut] for at in range(0, size, cut)]
        kept = await store.files.write(file(f"file-{cut}"), pieces(*parts))
        assert kept == file(f"file-{cut}", size=size)
        assert await store.files.get(OWNER, kept.id) == kept
        assert b"".join([piece async for piece in store.files.read(OWNER, kept.id)]) == data
        assert await store.files.delete(OWNER, kept.id)
    assert rows(store, file_chunks) == 0


async def test_a_file_that_does_not_arrive_leaves_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="cut off"):
        await store.files.write(file("file-x"), pieces(b"x" * CHUNK * 2, fault=ValueError("cut off")))
    assert rows(store, files) == rows(store, file_chunks) == 0
    await store.files.write(file("file-x"), pieces(b"y"))


async def test_files_are_their_owners(store: Store) -> None:
    kept = await store.files.write(file("file-x"), pieces(b"data"))
    assert await store.files.get(OTHER, kept.id) is None
    assert await store.files.owned(OTHER) == []
    assert not await store.files.delete(OTHER, kept.id)
    with pytest.raises(NotFoundError):
        await anext(store.files.read(OTHER, kept.id))
    unseen = await store.files.write(file("file-unseen"), pieces(b"data"), published=False)
    old = await store.files.write(file("file-old", expires_at=1), pieces(b"data"))
    for one in (unseen, old):
        assert await store.files.get(OWNER, one.id) is None
    assert await store.files.owned(OWNER) == [kept]


async def test_what_is_known_at_the_end_is_what_is_kept(store: Store) -> None:
    """Name, purpose and end of a file may come behind its bytes."""
    known = {"filename": "b", "purpose": "evals", "expires_at": NOW + 3600}
    kept = await store.files.write(file("file-x"), pieces(b"data"), named=lambda begun: replace(begun, **known))
    assert kept == file("file-x", size=4, **known) == await store.files.get(OWNER, "file-x")
    assert [one.id for one in await store.files.owned(OWNER, purpose="evals")] == ["file-x"]
    with pytest.raises(ZeroDivisionError):
        await store.files.write(file("file-y"), pieces(b"data"), named=lambda begun: 1 / 0)  # type: ignore[arg-type]
    assert rows(store, files) == rows(store, file_chunks) == 1
    assert (await store.files.bytes_of(OWNER), await store.files.bytes_of(OTHER)) == (4, 0)


async def test_a_file_that_a_batch_reads_is_there_until_the_batch_ends(store: Store) -> None:
    """Deleted, expired or old, it is gone for all but the batches that read it, and goes with the last of them."""
    data = b"x" * (CHUNK + 1)
    for id, facts in {"deleted": {}, "expired": {"expires_at": 1}, "old": {"created_at": 1}, "other": {}}.items():
        await store.files.write(file(id, **facts), pieces(data))
        await store.batches.create(batch(f"first-{id}", reads=id))
        await store.batches.create(batch(f"second-{id}", reads=id, created_at=NOW + 1))

    async def read(id: str, owner: str = OWNER, **how: bool) -> bytes | None:
        try:
            return b"".join([piece async for piece in store.files.read(owner, id, **how)])
        except NotFoundError:
            return None

    assert await store.files.delete(OWNER, "deleted")
    assert not await store.files.delete(OWNER, "deleted")
    assert await store.files.get(OWNER, "deleted") is None
    assert [one.id for one in await store.files.owned(OWNER)] == ["other", "old"]
    store.database.now(lambda connection: sweep(connection, Retention(max_age=1, max_bytes=1)))
    ended = 0
    while (one := await store.batches.claim([OWNER])) is not None:
        assert one.reads is not None
        assert one.reads in one.id
        assert await read(one.reads, for_batch=True) == data
        assert await read(one.reads, OTHER, for_batch=True) is None
        assert (await read(one.reads) is None) == (one.reads in ("deleted", "expired"))
        assert await store.batches.end(one)
        ended += 1
    assert ended == 8
    assert rows(store, files) == 3, "the deleted one is gone with its last batch"
    assert await read("deleted", for_batch=True) is await read("expired", for_batch=True) is None
    store.database.now(lambda connection: sweep(connection, Retention(max_age=1)))
    assert [one.id for one in await store.files.owned(OWNER)] == ["other"]
    assert rows(store, file_chunks) == 2


async def test_lists_are_paged(store: Store) -> None:
    """By age and then by id, both ways, in pages of any size."""
    made = [file(f"file-{n:02}", created_at=NOW + n // 3, purpose="batch" if n % 2 else "evals") for n in range(10)]
    made = [await store.files.write(one, pieces(b"x")) for one in made]
    for one in made:
        await store.batches.create(batch(one.id, created_at=one.created_at))
    for limit in (1, 3, 100):
        for order in ("asc", "desc"):
            seen: list[StoredFile] = []
            while page := await store.files.owned(
                OWNER,
                purpose="batch",
                after=seen[-1].id if seen else None,
                limit=limit,
                order=order,  # type: ignore[arg-type]
            ):
                seen += page
            assert seen == [one for one in made if one.purpose == "batch"][:: 1 if order == "asc" else -1]
        after: list[str] = []
        while later := await store.batches.owned(OWNER, "openai", after=after[-1] if after else None, limit=limit):
            after += [one.id for one in later]
        assert after == [one.id for one in made][::-1]
        before = [made[0].id]
        while newer := await store.batches.owned(OWNER, "openai", before=before[0], limit=limit):
            before = [one.id for one in newer] + before
        assert before == after
    for lost in (store.files.owned(OWNER, after="x"), store.batches.owned(OWNER, "openai", after="x")):
        with pytest.raises(NotFoundError):
            await lost
    assert await store.batches.owned(OWNER, "anthropic") == await store.batches.owned(OTHER, "openai") == []


async def test_a_batch_is_run_by_one_and_ends_once(store: Store, where: str) -> None:
    other = open_store(where)
    await other.start()
    await store.batches.create(batch("batch_a"), [NewLine(n, 9 - n, b"%d" % n) for n in range(3)])
    again = [NewLine(n, n, b"again") for n in (1, 2)]
    await store.batches.add_lines("batch_a", [*again, NewLine(3, 6, b"3")])
    assert await store.batches.claim([OTHER]) is None
    mine = await store.batches.claim([OTHER, OWNER])
    assert mine == batch("batch_a")
    assert await other.batches.claim([OWNER]) is None
    assert await other.batches.held() == {}
    assert await store.batches.held() == {"batch_a": "new"}
    assert not await other.batches.put_results("batch_a", [NewResult(0, "succeeded", b"other")])
    assert await store.batches.put_results("batch_a", [NewResult(0, "succeeded", b"first")]) == 1
    assert await store.batches.put_results("batch_a", [NewResult(0, "errored", b"second", "why")]) == 0
    waiting = await store.batches.waiting("batch_a")
    assert [(one.number, one.request) for one in waiting] == [(3, b"3"), (2, b"2"), (1, b"1")]
    assert await store.batches.waiting("batch_a", after=6, limit=1) == waiting[1:2]
    assert not await other.batches.change(OTHER, "batch_a", {"new"}, "cancelling", {})
    assert not await other.batches.change(OWNER, "batch_a", {"running"}, "cancelling", {})
    assert await other.batches.change(OWNER, "batch_a", {"new"}, "cancelling", {"asked": 1})
    assert await other.batches.give_up("batch_a", "canceled") == 0
    assert await store.batches.give_up("batch_a", "canceled") == 3
    assert await store.batches.counts("batch_a") == {"succeeded": 1, "canceled": 3}
    assert not await store.batches.delete(OWNER, "batch_a"), "it has not ended"
    output = await store.files.write(file("file-out"), pieces(b"x"), published=False)
    ended = replace(mine, status="cancelled", body={"output_file_id": output.id})
    assert not await other.batches.end(ended, [output.id])
    assert not await store.batches.end(ended, [output.id], since="new")
    assert await store.files.get(OWNER, output.id) is None
    assert await store.batches.end(ended, [output.id], since="cancelling")
    assert await store.files.get(OWNER, output.id) == output
    assert await store.batches.get(OWNER, "batch_a") == replace(ended, ended=True)
    assert not await store.batches.end(replace(ended, status="completed"))
    assert not await store.batches.change(OWNER, "batch_a", {"cancelled"}, "new", {})
    lines = await store.batches.results("batch_a")
    assert [(one.request, one.outcome, one.result) for one in lines] == [
        (None, "succeeded", b"first"),
        *((b"%d" % n, "canceled", None) for n in (1, 2, 3)),
    ]
    assert await store.batches.get(OTHER, "batch_a") is None
    assert not await store.batches.delete(OTHER, "batch_a")
    assert await store.batches.delete(OWNER, "batch_a")
    assert rows(store, batches) == rows(store, batch_lines) == 0
    await other.close()


async def test_why_lines_failed(store: Store) -> None:
    """Each cause with its lines and the first of them, the most frequent first; only what counts as a result counts."""
    causes = ["late", "bad", None, "bad", "late", "bad"]
    await store.batches.create(batch("batch_a"), [NewLine(n, 9 - n, b"%d" % n) for n in range(8)])
    await store.batches.create(batch("batch_b"), [NewLine(0, 0, b"0")])
    assert await store.batches.claim([OWNER])
    assert await store.batches.claim([OWNER])
    assert await store.batches.failures("batch_a") == []
    results = [NewResult(n, "errored" if why else "succeeded", b"x", why) for n, why in enumerate(causes)]
    await store.batches.put_results("batch_b", [NewResult(0, "errored", b"x", "bad")])
    for _ in range(2):
        await store.batches.put_results("batch_a", results[::-1])
    await store.batches.put_results("batch_a", [NewResult(0, "errored", b"x", "another")])
    await store.batches.give_up("batch_a", "cancelled")
    found = await store.batches.failures("batch_a")
    assert found == [LineFailures("bad", 3, 1), LineFailures("late", 2, 0)]
    assert await store.batches.counts("batch_a") == {"errored": 5, "succeeded": 1, "cancelled": 2}


async def test_what_waits_is_told_by_one(store: Store, where: str) -> None:
    """Batches that nobody runs and that have not ended: to one of all processes, so that sums over them are right."""
    others = [open_store(where) for _ in range(2)]
    for one in others:
        await one.start()
    for name in ("a", "b", "c"):
        await store.batches.create(batch(f"batch_{name}"))
    told = [{one.id for one in await each.batches.unclaimed()} for each in (store, *others)]
    assert sorted(told, key=len) == [set(), set(), {"batch_a", "batch_b", "batch_c"}]
    for _ in range(2):
        assert await others[0].batches.claim([OWNER])
    ended = await others[0].batches.get(OWNER, "batch_a")
    assert ended is not None
    assert await others[0].batches.end(replace(ended, status="completed"))
    told = [{one.id for one in await each.batches.unclaimed()} for each in (store, *others)]
    assert sorted(told, key=len) == [set(), set(), {"batch_c"}]
    for one in others:
        await one.close()
    assert {one.id for one in await store.batches.unclaimed()} == {"batch_b", "batch_c"}, "what they ran is free"


async def test_every_line_has_one_result_whoever_dies(store: Store, where: str) -> None:
    """Runners are killed again and again. What was told as a result stays the result; at the end every line has one,
    and the output file has each once; of files that were begun and never belonged to an end nothing is left."""
    draw = random.Random(where)
    names = [f"batch_{n}" for n in range(3)]
    for name in names:
        await store.batches.create(batch(name), [NewLine(n, n, asked(name, n)) for n in range(LINES)])
    told: dict[tuple[str, int], Any] = {}
    ended: set[str] = set()

    def hear(words: tuple[Any, ...]) -> None:
        if words[0] == "result":
            assert words[1:3] not in told
            told[words[1:3]] = words[3]
        elif words[0] == "ended":
            assert words[1] not in ended
            ended.add(words[1])

    found = await store.batches.owned(OWNER, "openai")
    for round in itertools.count():
        if all(one.ended for one in found):
            break
        with writing(where, f"{round}x", f"{round}y", work=run_batches) as runners:
            for _ in range(draw.randrange(1, 120)):
                if speaking := Writer.speaking(runners):
                    hear(draw.choice(speaking).next())
            for one in runners:
                one.kill()
            for one in runners:
                for words in one.rest():
                    hear(words)
        found = await store.batches.owned(OWNER, "openai")
    await store.database.write(store._enter)
    assert len(found) == len(names)
    for one in found:
        assert one.status == "completed"
        lines = await store.batches.results(one.id, limit=1000)
        assert len(lines) == LINES
        for number, line in enumerate(lines):
            assert line.outcome == "succeeded"
            assert line.result is not None
            assert asked(one.id, number) in line.result
            assert told.get((one.id, line.number), line.result) == line.result
        data = b"".join([piece async for piece in store.files.read(OWNER, one.body["output_file_id"])])
        assert data.splitlines() == [line.result for line in lines]
    assert rows(store, files) == rows(store, file_chunks) == len(names)
