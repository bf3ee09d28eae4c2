"""How long things are kept: by age, count and bytes, the oldest first, in pieces that keep nobody waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, and_, delete, func, select

from portico.store.files import READ
from portico.store.tables import batches, conversations, events, files, responses, usage

__all__ = ["Retention", "sweep"]

PIECE: Final = 100  # rows of a kind that one transaction deletes
EVENTS_KEPT: Final = 600.0  # seconds for which the events of a response outlast it
DAY: Final = 86400


class Kind(NamedTuple):
    """A kind of rows, by which time they are old, and which of them may go."""

    table: Table
    time: Column[Any]
    idle: ColumnElement[bool]

    def oldest(self, *columns: ColumnElement[Any]) -> Select[Any]:
        return select(*columns).where(self.idle).order_by(self.time)


RESPONSES: Final = Kind(responses, responses.c.created_at, responses.c.ended_at.is_not(None))
FILES: Final = Kind(files, files.c.created_at, and_(files.c.worker.is_(None), ~READ))
KINDS: Final = (
    RESPONSES,
    Kind(conversations, conversations.c.used_at, conversations.c.turn.is_(None)),
    FILES,
    Kind(batches, batches.c.created_at, batches.c.ended_at.is_not(None)),
)


@dataclass(frozen=True)
class Retention:
    """What is kept: for how many days, how many responses, how many bytes; None: no bound. Sums of usage have an age of
    their own.

    Age is since a thing was made, a conversation's since it was last used. What runs is never swept, nor what it reads.
    """

    max_age: float | None = 30.0
    max_responses: int | None = None
    max_bytes: int | None = None
    max_usage_age: float = 400.0  # days; so that a year can be compared with the one before it, month by month


def sweep(connection: Connection, retention: Retention) -> bool:
    """Delete one piece of what is not to be kept; whether there may be more."""
    expired = FILES.oldest(files.c.id).where(files.c.expires_at <= time.time())
    swept = [_delete(connection, files, expired, PIECE)]
    if retention.max_age is not None:
        edge = time.time() - retention.max_age * DAY
        for kind in KINDS:
            old = kind.oldest(kind.table.c.id).where(kind.time < edge)
            swept.append(_delete(connection, kind.table, old, PIECE))
    if retention.max_responses is not None:
        over = (connection.scalar(select(func.count()).select_from(responses)) or 0) - retention.max_responses
        swept.append(_delete(connection, responses, RESPONSES.oldest(responses.c.id), min(over, PIECE)))
    if retention.max_bytes is not None:
        swept.append(_make_room(connection, retention.max_bytes))
    connection.execute(delete(usage).where(usage.c.day < time.time() // DAY - retention.max_usage_age))
    gone = select(responses.c.id).where(responses.c.ended_at < time.time() - EVENTS_KEPT)
    some = select(events.c.response_id).where(events.c.response_id.in_(gone)).distinct().limit(PIECE)
    connection.execute(delete(events).where(events.c.response_id.in_(some)))
    return max(swept) >= PIECE


def _delete(connection: Connection, table: Table, which: Select[Any], count: int) -> int:
    if count <= 0:
        return 0
    return connection.execute(delete(table).where(table.c.id.in_(which.limit(count)))).rowcount


def _make_room(connection: Connection, bound: int) -> int:
    """Delete the oldest, of whatever kind, until what is kept has at most ``bound`` bytes; how many were deleted."""
    over = sum(connection.scalar(select(func.sum(kind.table.c.size))) or 0 for kind in KINDS) - bound
    if over <= 0:
        return 0
    found = [
        (when, size, id, kind.table)
        for kind in KINDS
        for when, size, id in connection.execute(
            kind.oldest(kind.time, kind.table.c.size, kind.table.c.id).limit(PIECE)
        )
    ]
    doomed: dict[Table, list[str]] = {kind.table: [] for kind in KINDS}
    for _, size, id, table in sorted(found, key=itemgetter(0))[:PIECE]:
        if over <= 0:
            break
        over -= size
        doomed[table].append(id)
    for table, ids in doomed.items():
        if ids:
            connection.execute(delete(table).where(table.c.id.in_(ids)))
    return sum(map(len, doomed.values()))
