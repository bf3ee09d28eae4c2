"""What was used, by day, key and model. Every process writes its own sums, so what is written twice counts once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, func, select

from portico.keys.usage import Used
from portico.store.tables import Put, usage

__all__ = ["put", "summed"]

SUMS: Final = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


def _put(insert: Callable[[Table], Any]) -> Any:
    row = insert(usage)
    renewed = {name: row.excluded[name] for name in SUMS}
    return row.on_conflict_do_update(index_elements=["process", "day", "key", "model"], set_=renewed)


PUT = Put(_put)


def put(connection: Connection, process: str, sums: Sequence[Used]) -> None:
    """These are the sums of that process now."""
    rows = [{"process": process, **one._asdict()} for one in sums]
    PUT.run(connection, rows)


def summed(connection: Connection, by: Sequence[str], since: int) -> list[dict[str, Any]]:
    """What was used since that day, summed over all but ``by``."""
    columns = [usage.c[name] for name in by]
    sums = [func.sum(usage.c[name]).label(name) for name in SUMS]
    found = select(*columns, *sums).where(usage.c.day >= since).group_by(*columns).order_by(*columns)
    return [
        {name: value if name in by else int(value) for name, value in row._mapping.items()}
        for row in connection.execute(found)
    ]
