"""Events of background streams, for any process to read. They are numbered by whoever makes them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from portico.store.coding import key
from portico.store.tables import events, insert, responses

__all__ = ["add", "after"]


def add(connection: Connection, id: str, first: int, data: Sequence[bytes]) -> None:
    """Append events that are numbered from ``first``. Those of a response that was deleted are let go."""
    there = select(responses.c.id).where(responses.c.id == key(id)).with_for_update(read=True, key_share=True)
    if data and connection.scalar(there) is not None:
        rows = [{"response_id": key(id), "number": number, "data": one} for number, one in enumerate(data, first)]
        connection.execute(insert(connection, events).on_conflict_do_nothing(), rows)


def after(connection: Connection, owner: str, id: str, number: int) -> list[tuple[int, bytes]]:
    """The events with greater numbers than that, in order."""
    found = (
        select(events.c.number, events.c.data)
        .join(responses, responses.c.id == events.c.response_id)
        .where(events.c.response_id == key(id), events.c.number > number, responses.c.owner == owner)
        .order_by(events.c.number)
    )
    return [(row.number, row.data) for row in connection.execute(found)]
