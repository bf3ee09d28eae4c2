"""Events of background streams, for any process to read. They are numbered by whoever makes them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from portico.store.coding import key
from portico.store.tables import Put, events, responses

__all__ = ["add", "after"]

THERE = select(responses.c.id).where(responses.c.id == bindparam("key")).with_for_update(read=True, key_share=True)
ADD = Put(lambda insert: insert(events).on_conflict_do_nothing())
AFTER = (
    select(events.c.number, events.c.data)
    .join(responses, responses.c.id == events.c.response_id)
    .where(
        events.c.response_id == bindparam("key"),
        events.c.number > bindparam("after"),
        responses.c.owner == bindparam("owner"),
    )
    .order_by(events.c.number)
)


def add(connection: Connection, id: str, first: int, data: Sequence[bytes]) -> None:
    """Append events that are numbered from ``first``. Those of a response that was deleted are let go."""
    if data and connection.scalar(THERE, {"key": key(id)}) is not None:
        rows = [{"response_id": key(id), "number": number, "data": one} for number, one in enumerate(data, first)]
        ADD.run(connection, rows)


def after(connection: Connection, owner: str, id: str, number: int) -> list[tuple[int, bytes]]:
    """The events with greater numbers than that, in order."""
    found = connection.execute(AFTER, {"key": key(id), "after": number, "owner": owner})
    return [(row.number, row.data) for row in found]
