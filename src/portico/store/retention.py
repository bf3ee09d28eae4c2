"""How long things are kept: by age, count and bytes, the oldest first, in pieces that keep nobody waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from sqlalchemy import Connection, Select, Table, delete, func, select

from portico.store.tables import conversations, events, responses

__all__ = ["Retention", "sweep"]

PIECE: Final = 100  # rows that one transaction deletes
EVENTS_KEPT: Final = 600.0  # seconds for which the events of a response outlast it
DAY: Final = 86400

ENDED: Final = responses.c.ended_at.is_not(None)
IDLE: Final = conversations.c.turn.is_(None)


@dataclass(frozen=True)
class Retention:
    """What is kept: for how many days, how many responses, how many bytes; None: no bound.

    A response's age is since it was made, a conversation's since it was last used. What runs is never swept.
    """

    max_age: float | None = 30.0
    max_responses: int | None = None
    max_bytes: int | None = None


def sweep(connection: Connection, retention: Retention) -> bool:
    """Delete one piece of what is not to be kept; whether there may be more."""
    oldest = select(responses.c.id).where(ENDED).order_by(responses.c.created_at)
    unused = select(conversations.c.id).where(IDLE).order_by(conversations.c.used_at)
    swept = [0]
    if retention.max_age is not None:
        edge = time.time() - retention.max_age * DAY
        swept.append(_delete(connection, responses, oldest.where(responses.c.created_at < edge), PIECE))
        swept.append(_delete(connection, conversations, unused.where(conversations.c.used_at < edge), PIECE))
    if retention.max_responses is not None:
        over = (connection.scalar(select(func.count()).select_from(responses)) or 0) - retention.max_responses
        swept.append(_delete(connection, responses, oldest, min(over, PIECE)))
    if retention.max_bytes is not None:
        swept.append(_make_room(connection, retention.max_bytes))
    gone = select(responses.c.id).where(responses.c.ended_at < time.time() - EVENTS_KEPT)
    some = select(events.c.response_id).where(events.c.response_id.in_(gone)).distinct().limit(PIECE)
    connection.execute(delete(events).where(events.c.response_id.in_(some)))
    return max(swept) >= PIECE


def _delete(connection: Connection, table: Table, which: Select[str], count: int) -> int:
    if count <= 0:
        return 0
    return connection.execute(delete(table).where(table.c.id.in_(which.limit(count)))).rowcount


def _make_room(connection: Connection, bound: int) -> int:
    """Delete the oldest of both kinds until what is kept has at most ``bound`` bytes; how many were deleted."""
    over = sum(connection.scalar(select(func.sum(table.c.size))) or 0 for table in (responses, conversations)) - bound
    if over <= 0:
        return 0
    of_responses = select(responses.c.created_at, responses.c.size, responses.c.id).where(ENDED)
    of_conversations = select(conversations.c.used_at, conversations.c.size, conversations.c.id).where(IDLE)
    found = [
        (when, size, id, table)
        for table, which in (
            (responses, of_responses.order_by(responses.c.created_at)),
            (conversations, of_conversations.order_by(conversations.c.used_at)),
        )
        for when, size, id in connection.execute(which.limit(PIECE))
    ]
    doomed: dict[Table, list[str]] = {responses: [], conversations: []}
    for _, size, id, table in sorted(found, key=itemgetter(0))[:PIECE]:
        if over <= 0:
            break
        over -= size
        doomed[table].append(id)
    for table, ids in doomed.items():
        connection.execute(delete(table).where(table.c.id.in_(ids)))
    return sum(map(len, doomed.values()))
