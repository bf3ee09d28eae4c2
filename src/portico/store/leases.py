"""Which processes live, and what becomes of the work of those that have died.

Every process that uses the store has a row. On one machine the system knows whether it lives; of others, it is dead
that has given no sign of life for ``LEASE`` seconds. What a dead process ran has failed, its locks are void, its
batches are free for others, and what it had written of a file is gone: seen to by whoever starts, by every living
process now and then, and by whoever asks for such a response.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, func, not_, select, update

from portico.store.coding import dumps, loads
from portico.store.tables import Put, batches, conversations, files, now, processes, responses

__all__ = ["BEAT", "LEASE", "Identity", "beat", "is_first", "is_lost", "leave", "recover"]

BEAT: Final = 5.0  # seconds between signs of life
LEASE: Final = 30.0  # seconds without any, after which a process on another machine is taken for dead

BEAT_NOW = Put(
    lambda insert: (
        insert(processes).values(beat=now()).on_conflict_do_update(index_elements=["id"], set_={"beat": now()})
    )
)

LOST: Final = {"code": "server_error", "message": "The server process that made this response has ended."}


@dataclass(frozen=True)
class Identity:
    """This process, as its row says it. ``place`` is where its number means something; empty where none is known."""

    id: str
    place: str
    pid: int
    born: str

    @classmethod
    def own(cls, id: str) -> Identity:
        return cls(id, _place(), os.getpid(), _born(os.getpid()))


def _place() -> str:
    """This boot of this machine, and the namespace of process numbers in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux: its processes go by their signs of life alone
        return ""


def _born(pid: int) -> str:
    """When that process began, in ticks since the boot; empty when there is no such process, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def beat(connection: Connection, me: Identity) -> None:
    """A sign of life. Who was taken for dead meanwhile is entered anew."""
    row = {"id": me.id, "place": me.place, "pid": me.pid, "born": me.born}
    BEAT_NOW.run(connection, row)


def leave(connection: Connection, me: Identity) -> None:
    """This process ends; what it still runs has failed."""
    connection.execute(delete(processes).where(processes.c.id == me.id))
    _settle(connection)


def is_lost(connection: Connection, me: Identity, worker: str) -> bool:
    """Whether the process ``worker`` has died."""
    return not _lives(connection, me).get(worker, False)


def is_first(connection: Connection, me: Identity) -> bool:
    """Whether this process is the one, of those that live, that does what one of them is to do."""
    return bool(connection.scalar(select(func.min(processes.c.id))) == me.id)


def recover(connection: Connection, me: Identity) -> None:
    """End what dead processes ran, and void their locks."""
    dead = [id for id, lives in _lives(connection, me).items() if not lives]
    if dead:
        connection.execute(delete(processes).where(processes.c.id.in_(dead)))
    _settle(connection)


def _lives(connection: Connection, me: Identity) -> dict[str, bool]:
    """Whether it lives, of every process that has a row."""
    found = {}
    for row in connection.execute(select(processes, (now() - processes.c.beat).label("silent"))):
        here = me.place and row.place == me.place
        found[row.id] = row.id == me.id or (_born(row.pid) == row.born if here else row.silent < LEASE)
    return found


def _settle(connection: Connection) -> None:
    """What is run by no process that has a row."""
    running = select(responses.c.id, responses.c.body).where(_left(responses))
    for row in connection.execute(running.with_for_update()).all():
        body = dumps({**loads(row.body), "status": "failed", "error": LOST})
        connection.execute(
            update(responses)
            .where(responses.c.id == row.id)
            .values(status="failed", worker=None, ended_at=time.time(), body=body)
        )
    connection.execute(update(conversations).where(_left(conversations)).values(turn=None, worker=None))
    connection.execute(update(batches).where(_left(batches)).values(worker=None))
    connection.execute(delete(files).where(_left(files)))


def _left(table: Table) -> ColumnElement[bool]:
    """Whether the process that has a row is gone."""
    return and_(table.c.worker.is_not(None), not_(exists().where(processes.c.id == table.c.worker)))
