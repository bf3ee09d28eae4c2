"""The tables, and what SQLite and PostgreSQL say differently.

What is looked for has a column; the rest of a row is JSON, in ``content``. ``size`` is what a row and its items take,
in bytes. Times are seconds since 1970.

Statements that every turn runs are constants of their modules: building one costs several times what running it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    false,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = [
    "PREFIX",
    "Put",
    "accounts",
    "batch_lines",
    "batches",
    "conversation_items",
    "conversations",
    "events",
    "file_chunks",
    "files",
    "keys",
    "metadata",
    "now",
    "processes",
    "response_items",
    "responses",
    "usage",
]

PREFIX = "portico_"  # a PostgreSQL database may be others' too

metadata = MetaData()

# The processes that use the store, each with the time of its last sign of life.
processes = Table(
    PREFIX + "processes",
    metadata,
    Column("id", String, primary_key=True),
    Column("place", String, nullable=False),  # where ``pid`` and ``born`` mean something
    Column("pid", Integer, nullable=False),
    Column("born", String, nullable=False),
    Column("beat", Double, nullable=False),
)

responses = Table(
    PREFIX + "responses",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", Double),  # null: it runs, in the process ``worker``
    Column("worker", String),
    Column("cancel", Boolean, nullable=False, server_default=false()),  # somebody has asked to stop it
    Column("status", String, nullable=False),
    Column("previous_id", String),
    Column("conversation_id", String),
    Column("size", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),  # apart: who follows a chain does not read it
    Index(PREFIX + "responses_by_age", "created_at", "size"),
    Index(PREFIX + "responses_by_end", "ended_at"),
)

# Which response an item was given to, or came out of.
response_items = Table(
    PREFIX + "response_items",
    metadata,
    Column("response_id", String, ForeignKey(responses.c.id, ondelete="CASCADE"), primary_key=True),
    Column("item_id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Index(PREFIX + "response_items_by_id", "owner", "item_id"),
    sqlite_with_rowid=False,
)

events = Table(
    PREFIX + "events",
    metadata,
    Column("response_id", String, ForeignKey(responses.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

conversations = Table(
    PREFIX + "conversations",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    Column("turn", String),  # the response that is being made of it, in the process ``worker``
    Column("worker", String),
    Column("count", BigInteger, nullable=False),  # of items that were ever added
    Column("size", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index(PREFIX + "conversations_by_use", "used_at", "size"),
)

conversation_items = Table(
    PREFIX + "conversation_items",
    metadata,
    Column("conversation_id", String, ForeignKey(conversations.c.id, ondelete="CASCADE"), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("item_id", String, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index(PREFIX + "conversation_items_by_id", "item_id"),
)

files = Table(
    PREFIX + "files",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("worker", String),  # the process that writes it; null: it is whole
    Column("deleted", Boolean, nullable=False, server_default=false()),  # and there only for batches that read it
    Column("purpose", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index(PREFIX + "files_by_owner", "owner", "created_at", "id"),
    Index(PREFIX + "files_by_age", "created_at", "size"),
)

file_chunks = Table(
    PREFIX + "file_chunks",
    metadata,
    Column("file_id", String, ForeignKey(files.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

batches = Table(
    PREFIX + "batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("kind", String, nullable=False),  # whose API it was made by
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", Double),
    Column("worker", String),  # the process that runs it; null: nobody does, or it has ended
    Column("reads", String),  # the file that its lines are in
    Column("status", String, nullable=False),
    Column("size", BigInteger, nullable=False),  # with its lines, once it has ended
    Column("content", LargeBinary, nullable=False),
    Index(PREFIX + "batches_by_owner", "owner", "kind", "created_at", "id"),
    Index(PREFIX + "batches_by_end", "ended_at"),
    Index(PREFIX + "batches_by_file", "reads"),
)

batch_lines = Table(
    PREFIX + "batch_lines",
    metadata,
    Column("batch_id", String, ForeignKey(batches.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("place", BigInteger, nullable=False, server_default="0"),  # among the lines that are to be run
    Column("outcome", String),  # null: it has no result yet
    Column("cause", String),  # of a result that is an error
    Column("request", LargeBinary, nullable=False),
    Column("result", LargeBinary),
    Index(PREFIX + "batch_lines_by_outcome", "batch_id", "outcome", "place"),
)
Index(
    PREFIX + "batch_lines_by_cause",
    *(batch_lines.c.batch_id, batch_lines.c.cause, batch_lines.c.number),
    sqlite_where=batch_lines.c.cause.is_not(None),
    postgresql_where=batch_lines.c.cause.is_not(None),
)

# What processes have taken: little of what is kept.
for table in (responses, conversations, files, batches):
    taken = table.c.worker.is_not(None)
    Index(f"{table.name}_by_worker", table.c.worker, sqlite_where=taken, postgresql_where=taken)

keys = Table(
    PREFIX + "keys",
    metadata,
    Column("name", String, primary_key=True),
    Column("hash", String, nullable=False, unique=True),
    Column("content", LargeBinary, nullable=False),
)

# What every process has counted, of every key and model on every day (since 1970, in UTC).
usage = Table(
    PREFIX + "usage",
    metadata,
    Column("process", String, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("key", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)

# What servers tell each other of what every key has used, for its limits.
accounts = Table(
    PREFIX + "accounts",
    metadata,
    Column("server", String, primary_key=True),
    Column("account", String, primary_key=True),
    Column("told_at", Double, nullable=False),
    Column("content", LargeBinary, nullable=False),
)


class Put:
    """The statement that ``build`` makes with an ``insert`` which knows ``on_conflict_do_nothing`` and
    ``on_conflict_do_update``. Its text is made once for each database: SQLAlchemy looks a statement over at every
    execution, which takes it longer than SQLite takes to insert the row."""

    def __init__(self, build: Callable[[Callable[[Table], Any]], Any]) -> None:
        self._statements = {"sqlite": build(sqlite.insert), "postgresql": build(postgresql.insert)}
        self._texts: dict[str, str] = {}

    def run(self, connection: Connection, rows: dict[str, Any] | list[dict[str, Any]]) -> int:
        """Put a row, or several, which always have the same columns; how many were put."""
        name = connection.dialect.name
        text = self._texts.get(name)
        if text is None:
            columns = [*(rows if isinstance(rows, dict) else rows[0])]
            text = str(self._statements[name].compile(dialect=connection.dialect, column_keys=columns))
            self._texts[name] = text
        return connection.exec_driver_sql(text, rows).rowcount


class now(FunctionElement[float]):
    """The database's time, in seconds since 1970: several machines agree on no other."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
