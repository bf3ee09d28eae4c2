"""The lines of batches: what is asked, in which order, and how it came out. Results count only from who has the batch,
and only the first of each line.

Requests and results are kept as the JSON they came as, and read in pages of bounded bytes: any of them may be large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    select,
    true,
    update,
)

from portico.store.coding import key
from portico.store.records import LineFailures, NewLine, NewResult, StoredLine
from portico.store.tables import Put, batch_lines, batches

__all__ = ["RESULTS", "SIZE", "WAITING", "add", "counts", "failures", "give_up", "page", "put_results"]

PAGE: Final = 1 << 20  # bytes of lines that are read at once, and one line more

LINE = and_(batch_lines.c.batch_id == bindparam("batch"), batch_lines.c.number == bindparam("which"))
HELD = exists().where(batches.c.id == bindparam("batch"), batches.c.worker == bindparam("by"))
PUT_LINES = Put(lambda insert: insert(batch_lines).on_conflict_do_nothing())
PUT_RESULT = (
    update(batch_lines)
    .where(LINE, batch_lines.c.outcome.is_(None), HELD)
    .values(outcome=bindparam("how"), result=bindparam("what"), cause=bindparam("why"))
)
GIVE_UP = (
    update(batch_lines)
    .where(batch_lines.c.batch_id == bindparam("batch"), batch_lines.c.outcome.is_(None), HELD)
    .values(outcome=bindparam("how"))
)


def _page(order: Column[Any], which: ColumnElement[bool], *wanted: ColumnElement[Any]) -> Select[Any]:
    """The lines behind ``after`` in that order, at most ``limit``, and as many as fit a page."""
    size: ColumnElement[int] = literal(0)
    for one in wanted:
        size = size + func.coalesce(func.length(one), 0)
    sized = (
        select(batch_lines.c.number, order.label("at"), size.label("size"))
        .where(batch_lines.c.batch_id == bindparam("batch"), order > bindparam("after"), which)
        .order_by(order)
        .limit(bindparam("limit"))
        .subquery()
    )
    before = (func.sum(sized.c.size).over(order_by=sized.c.at) - sized.c.size).label("before")
    summed = select(sized.c.number, before).subquery()
    here = and_(batch_lines.c.batch_id == bindparam("batch"), batch_lines.c.number == summed.c.number)
    return (
        select(batch_lines.c.number, batch_lines.c.place, batch_lines.c.outcome, *wanted)
        .join(summed, here)
        .where(summed.c.before < PAGE)
        .order_by(order)
    )


UNANSWERED = case((batch_lines.c.result.is_(None), batch_lines.c.request)).label("request")
WAITING = _page(batch_lines.c.place, batch_lines.c.outcome.is_(None), batch_lines.c.request)
RESULTS = _page(batch_lines.c.number, true(), batch_lines.c.result, UNANSWERED)
COUNTS = (
    select(batch_lines.c.outcome, func.count())
    .where(batch_lines.c.batch_id == bindparam("batch"))
    .group_by(batch_lines.c.outcome)
)
FAILURES = (
    select(batch_lines.c.cause, func.count().label("count"), func.min(batch_lines.c.number).label("first"))
    .where(batch_lines.c.batch_id == bindparam("batch"), batch_lines.c.cause.is_not(None))
    .group_by(batch_lines.c.cause)
    .order_by(func.count().desc(), batch_lines.c.cause)
)
SIZES = func.length(batch_lines.c.request) + func.coalesce(func.length(batch_lines.c.result), 0)
SIZE = select(func.coalesce(func.sum(SIZES), 0)).where(batch_lines.c.batch_id == batches.c.id).scalar_subquery()


def counts(connection: Connection, id: str) -> dict[str | None, int]:
    """How many came out how; under None those that have no result."""
    return {row[0]: row[1] for row in connection.execute(COUNTS, {"batch": key(id)})}


def failures(connection: Connection, id: str) -> list[LineFailures]:
    """Why they failed, the most frequent cause first."""
    return [LineFailures(*row) for row in connection.execute(FAILURES, {"batch": key(id)})]


def page(connection: Connection, which: Select[Any], id: str, after: int, limit: int) -> list[StoredLine]:
    """Those that ``which`` is about, behind ``after``."""
    found = connection.execute(which, {"batch": key(id), "after": after, "limit": limit})
    return [StoredLine(**row) for row in found.mappings()]


def add(connection: Connection, id: str, lines: Sequence[NewLine]) -> None:
    """Lines of the batch; those that are there stay as they are."""
    if lines:
        rows = [
            {"batch_id": key(id), "number": line.number, "place": line.place, "request": line.request} for line in lines
        ]
        PUT_LINES.run(connection, rows)


def put_results(connection: Connection, worker: str, id: str, results: Sequence[NewResult]) -> int:
    """Results of the batch that ``worker`` has; how many of them are new."""
    rows = [
        {
            **{"batch": key(id), "which": one.number, "by": worker},
            **{"how": one.outcome, "what": one.result, "why": one.cause},
        }
        for one in results
    ]
    return sum(connection.execute(PUT_RESULT, row).rowcount for row in rows)


def give_up(connection: Connection, worker: str, id: str, outcome: str) -> int:
    """All without a result have that outcome; how many they are."""
    return connection.execute(GIVE_UP, {"batch": key(id), "by": worker, "how": outcome}).rowcount
