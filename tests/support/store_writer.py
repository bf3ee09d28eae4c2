"""A process that writes to a store until it is killed, and tells what it has been told is done.

What it tells are tuples: ``put, ID``; ``events, ID, COUNT``; ``done, ID`` (of a background response that has ended);
``locked, CONVERSATION``; ``turn, ID, CONVERSATION`` (of a response that was kept with its items).
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from portico.store import Store, StoredResponse, open_store
from support.wait import SAFETY

OWNER = "a" * 64


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

    def __init__(self, where: str, name: str) -> None:
        context = multiprocessing.get_context("forkserver")  # what it imports is imported once for all of them
        context.set_forkserver_preload([__name__])
        self._told, tells = context.Pipe(duplex=False)
        self._process = context.Process(target=_write, args=(where, name, tells), daemon=True)
        tests = str(Path(__file__).resolve().parents[1])
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))
        self._process.start()
        tells.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

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
def writing(where: str, *names: str) -> Iterator[list[Writer]]:
    """A process for each name, until the block ends."""
    writers = [Writer(where, name) for name in names]
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


def _write(where: str, name: str, tells: Connection) -> None:
    async def main() -> None:
        store = open_store(where, patience=SAFETY)
        await store.start()
        await asyncio.gather(_background(store, name, tells), _turns(store, name, tells))

    asyncio.run(main())
