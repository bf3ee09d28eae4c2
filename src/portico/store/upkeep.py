"""What an operator does with a store by hand, in one thread: look at it, renew it, shrink it, take all out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, Table, func, select, text, union

from portico.errors import StoreError
from portico.store.coding import dumps, loads
from portico.store.database import Database
from portico.store.migrating import HEAD, create, migrate, version
from portico.store.responses import GET, shown
from portico.store.tables import (
    batches,
    conversation_items,
    conversations,
    events,
    files,
    metadata,
    processes,
    response_items,
    responses,
)

__all__ = ["Info", "Upkeep"]

Result = TypeVar("Result")

PAGE: Final = 100  # rows that an export reads at once


class Info(Struct, frozen=True):
    """What is in a store. ``tables`` is the step at which its tables are, ``wanted`` the one that this version needs;
    counts are empty where the two differ. Times are unix seconds."""

    place: str
    database: str
    tables: str | None
    wanted: str
    bytes: int
    counts: dict[str, int]
    oldest: int | None = None
    newest: int | None = None


class Upkeep:
    """The store in a database; a server may have it open meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def info(self) -> Info:
        """Raises ``StoreError`` where there is no store."""
        self._must_exist()
        tables = self._database.outside(version)
        counts, oldest, newest = self._database.outside(_counted) if tables == HEAD else ({}, None, None)
        return Info(
            self._database.shown, self._database.outside(_product), tables, HEAD, self._bytes(), counts, oldest, newest
        )

    def migrate(self) -> tuple[str | None, str]:
        """Make or renew the tables; the step at which they were, and are. Raises ``StoreError``."""
        if isinstance(self._database.where, Path):
            create(self._database.where, self._database.patience)
        before = self._database.outside(version)
        self._database.now(migrate)
        return before, HEAD

    def do(self, work: Callable[[Connection], Result], *, make: bool = False) -> Result:
        """What ``work`` returns, over tables as this version has them; with ``make`` there may be none before. Raises
        ``StoreError``."""
        if not make:
            self._must_exist()
        self.migrate()
        return self._database.now(work)

    def vacuum(self) -> tuple[int, int]:
        """Give the room of what was deleted back to the system; the bytes before and after. Raises ``StoreError``."""
        self._must_exist()
        before = self._bytes()
        self._database.outside(_vacuum)
        self._database.close()  # SQLite's files beside its file go with the last connection
        return before, self._bytes()

    def export(self) -> Iterator[bytes]:
        """Every response, every conversation, and behind each conversation its items: a line of JSON each. Memory is a
        page's. Raises ``StoreError``."""
        self._must_exist()
        for one in self._all():
            yield dumps(one).strip() + b"\n"

    def _all(self) -> Iterator[dict[str, Any]]:
        for id, owner in self._pages(select(responses.c.id, responses.c.owner), responses.c.id):
            found = self._database.outside(lambda c: c.execute(GET, {"key": id, "owner": owner}).first())  # noqa: B023
            if found is not None:
                one = shown(found, loads(found.body))
                yield {"object": "response", "owner": owner, "input": one.input, "response": one.body}
        facts = [conversations.c[name] for name in ("id", "owner", "created_at", "content")]
        for id, owner, created_at, content in self._pages(select(*facts), conversations.c.id):
            known = {"id": id, "created_at": created_at, "metadata": loads(content)}
            yield {"object": "conversation", "owner": owner, "conversation": known}
            mine = conversation_items.c.conversation_id == id
            items = select(conversation_items.c.position, conversation_items.c.content).where(mine)
            for _, item in self._pages(items, conversation_items.c.position):
                yield {"object": "conversation.item", "owner": owner, "conversation_id": id, "item": loads(item)}

    def _pages(self, rows: Select[Any], by: ColumnElement[Any]) -> Iterator[Any]:
        """The rows in the order of ``by``, which is their first column."""
        last = None
        while True:
            page = rows if last is None else rows.where(by > last)
            found = self._database.outside(lambda c: c.execute(page.order_by(by).limit(PAGE)).all())  # noqa: B023
            yield from found
            if len(found) < PAGE:
                return
            last = found[-1][0]

    def _must_exist(self) -> None:
        where = self._database.where
        if isinstance(where, Path) and not where.exists():
            raise StoreError(f"There is no store at {where} yet.", param="store")

    def _bytes(self) -> int:
        where = self._database.where
        if isinstance(where, Path):
            return sum(path.stat().st_size for path in where.parent.glob(f"{where.name}*"))
        return self._database.outside(_table_bytes)


def _counted(connection: Connection) -> tuple[dict[str, int], int | None, int | None]:
    def count(table: Table, *which: ColumnElement[bool]) -> int:
        return connection.scalar(select(func.count()).select_from(table).where(*which)) or 0

    owned = (responses, conversations, files, batches)  # with a slash: parts of files
    owners = union(*(select(table.c.owner).where(~table.c.owner.contains("/")) for table in owned)).subquery()
    counts = {
        "responses": count(responses),
        "running": count(responses, responses.c.ended_at.is_(None)),
        "items": count(response_items),
        "events": count(events),
        "conversations": count(conversations),
        "conversation_items": count(conversation_items),
        "files": count(files),
        "batches": count(batches),
        "keys": connection.scalar(select(func.count()).select_from(owners)) or 0,
        "processes": count(processes),
    }
    oldest, newest = connection.execute(
        select(func.min(responses.c.created_at), func.max(responses.c.created_at))
    ).one()
    return counts, oldest, newest


def _product(connection: Connection) -> str:
    lite = connection.dialect.name == "sqlite"
    number = connection.scalar(text("SELECT sqlite_version()" if lite else "SHOW server_version"))
    return f"{'SQLite' if lite else 'PostgreSQL'} {number}"


def _table_bytes(connection: Connection) -> int:
    name = text("SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c WHERE c.relname = ANY(:names)")
    return int(connection.scalar(name, {"names": list(metadata.tables)}))


def _vacuum(connection: Connection) -> None:
    connection.execute(text("VACUUM"))
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
