"""A process that writes to a store until it is killed, and tells what it has been told is done.

What it tells are tuples: ``put, ID``; ``events, ID, COUNT``; ``done, ID`` (of a background response that has ended);
``locked, CONVERSATION``; ``turn, ID, CONVERSATION`` (of a response that was kept with its items). One that runs batches
tells ``claimed, ID``; ``result, ID, NUMBER, RESULT``; ``ended, ID``.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import orjson
from msgspec.structs import replace

from portico.store import NewResult, Store, StoredFile, StoredResponse, open_store
from support.wait import SAFETY

OWNER = "a" * 64
Work = Callable[[Store, str, Connection], Awaitable[None]]


def made(id: str) -> StoredResponse:
    """The response of that id, as whoever checks can make it too."""
    number = sum(id.encode())
    output = [{"id": f"out_{id}", "type": "message", "content": f"answer {number} " * (number % 50)}]
    return StoredResponse(
        id=id,
        owner=OWNER,
        created_at=1_900_000_000,
        status="completed",
        model="tiny",
        background=True,
        input=[{"id": f"in_{id}", "type": "message", "content": f"question {number}"}],
        output=output,
        body={"id": id, "status": "completed", "error": None, "output": output},
    )


class Writer:
    """The process, as who is going to kill it sees it."""

    def __init__(self, where: str, name: str, work: Work) -> None:
        context = multiprocessing.get_context("forkserver")  # what it imports is imported once for all of them
        context.set_forkserver_preload([__name__])
        self._told, tells = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(work, where, name, tells), daemon=True)
        tests = str(Path(__file__).resolve().parents[1])
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))
        self._process.start()
        tells.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @staticmethod
    def speaking(writers: Sequence[Writer]) -> list[Writer]:
        """Those of them who tell something, once one does; nobody where all are silent for a moment."""
        heard = wait([one._told for one in writers], 0.1)
        return [one for one in writers if one._told in heard]

    def next(self) -> tuple[Any, ...]:
        """What it tells next; raises ``EOFError`` when it is dead and all it told is read."""
        assert self._told.poll(SAFETY), "it says nothing"
        return self._told.recv()  # type: ignore[no-any-return]

    def rest(self) -> Iterator[tuple[Any, ...]]:
        """What it had told and nobody read before it died."""
        try:
            while True:
                yield self.next()
        except (EOFError, OSError):
            pass

    def kill(self) -> None:
        """Returns when it is dead."""
        self._process.kill()
        self._process.join(SAFETY)


@contextmanager
def writing(where: str, *names: str, work: Work | None = None) -> Iterator[list[Writer]]:
    """A process for each name that does this work (``write``, unless another is named), until the block ends."""
    writers = [Writer(where, name, work or write) for name in names]
    try:
        yield writers
    finally:
        for one in writers:
            one.kill()


async def _background(store: Store, name: str, tells: Connection) -> None:
    """One background response after another, with their events."""
    for number in itertools.count():
        one = made(f"resp_{name}b{number}")
        waiting = replace(one, status="queued", output=[], body={"id": one.id, "status": "queued", "error": None})
        await store.put_response(waiting)
        tells.send(("put", one.id))
        await store.put_response(replace(waiting, status="in_progress"))
        for first in range(0, 12, 4):
            await store.add_events(one.id, first, [b"event %d" % n for n in range(first, first + 4)])
            tells.send(("events", one.id, first + 4))
        await store.put_response(one)
        tells.send(("done", one.id))


async def _turns(store: Store, name: str, tells: Connection) -> None:
    """Conversations of three turns each."""
    for number in itertools.count():
        if number % 3 == 0:
            conversation = (await store.create_conversation(OWNER, {}, [])).id
        one = replace(made(f"resp_{name}t{number}"), background=False, conversation_id=conversation)
        assert await store.lock_conversation(OWNER, conversation, one.id)
        tells.send(("locked", conversation))
        await store.finish_turn(one, conversation, [*one.input, *one.output])
        tells.send(("turn", one.id, conversation))


async def write(store: Store, name: str, tells: Connection) -> None:
    """Responses and conversations without end."""
    await asyncio.gather(_background(store, name, tells), _turns(store, name, tells))


async def run_batches(store: Store, name: str, tells: Connection) -> None:
    """Every batch that is free: a result for each line, a file of all results, the end."""
    tells.send(("up",))
    while True:
        batch = await store.batches.claim([OWNER])
        if batch is None:
            await asyncio.sleep(0.01)
            continue
        tells.send(("claimed", batch.id))
        while lines := await store.batches.waiting(batch.id, limit=7):
            for line in lines:
                assert line.request is not None
                result = orjson.dumps({"by": name, "of": orjson.Fragment(line.request)})
                if await store.batches.put_results(batch.id, [NewResult(line.number, "succeeded", result)]):
                    tells.send(("result", batch.id, line.number, result))

        async def results(id: str = batch.id) -> AsyncIterator[bytes]:
            for line in await store.batches.results(id, limit=1000):
                assert line.result is not None
                yield line.result + b"\n"

        output = f"file-{batch.id}-{name}"
        file = StoredFile(
            id=output, owner=OWNER, created_at=int(time.time()), filename="output.jsonl", purpose="batch_output"
        )
        await store.files.write(file, results(), published=False)
        ended = replace(batch, status="completed", body={"output_file_id": output})
        if await store.batches.end(ended, [output]):
            tells.send(("ended", batch.id))


def _work(work: Work, where: str, name: str, tells: Connection) -> None:
    async def main() -> None:
        store = open_store(where, patience=SAFETY)
        await store.start()
        await work(store, name, tells)

    asyncio.run(main())
