"""What servers tell each other of what every API key has used. What is told is theirs: here it is bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, Table, bindparam, delete, select

from portico.store.tables import Put, accounts, now

__all__ = ["KEPT", "Heard", "settle"]

KEPT: Final = 86400.0 + 3600.0  # seconds: a day's limits, and one step of them
MARGIN: Final = 5.0  # seconds that a row may be seen later than its time says

NEWS = select(accounts).where(accounts.c.server != bindparam("me"), accounts.c.told_at > bindparam("since"))
OLD = delete(accounts).where(accounts.c.told_at < now() - KEPT)


def _put(insert: Callable[[Table], Any]) -> Any:
    row = insert(accounts).values(told_at=now())
    renewed = {"told_at": now(), "content": row.excluded.content}
    return row.on_conflict_do_update(index_elements=["server", "account"], set_=renewed)


PUT = Put(_put)


class Heard(Struct, frozen=True):
    """What another server has told; ``told_at`` is in the database's time."""

    server: str
    account: str
    told_at: float
    content: bytes


def settle(connection: Connection, server: str, told: Mapping[str, bytes], since: float) -> tuple[float, list[Heard]]:
    """Tell what ``server`` has to tell, by accounts, and hear what others have told since that time, some of it perhaps
    again; the time now."""
    for account, content in sorted(told.items()):
        row = {"server": server, "account": account, "content": content}
        PUT.run(connection, row)
    if told:
        connection.execute(OLD)
    at: float = connection.execute(select(now())).scalar_one()
    found = connection.execute(NEWS, {"me": server, "since": max(since - MARGIN, at - KEPT)})
    return at, [Heard(row.server, row.account, row.told_at, row.content) for row in found]
