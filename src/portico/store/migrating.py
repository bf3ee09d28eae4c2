"""Bringing a database to this version's tables, when several processes start at once.

Each step is a file of ``migrations/versions``; steps run in one transaction, under a lock that all who start take.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from portico.errors import StoreError
from portico.store.tables import PREFIX

__all__ = ["HEAD", "create", "migrate", "version"]

HEAD: Final = "0007"  # the newest of migrations/versions
LOCK: Final = 0x706F7274  # PostgreSQL's advisory lock of those who migrate
VERSION_TABLE: Final = PREFIX + "version"


def create(path: Path, patience: float) -> None:
    """Make SQLite's file, readable by its user alone, if it is not there, and have it written ahead. Raises
    ``OSError`` and ``sqlite3.Error``."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _write_ahead(connection, time.monotonic() + patience)
    finally:
        connection.close()


def _write_ahead(connection: sqlite3.Connection, deadline: float) -> None:
    """Readers do not wait for writers then. The change itself waits for nobody, so it is tried again."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def migrate(connection: Connection) -> None:
    """Make or renew the tables, in a transaction that has begun. Raises ``StoreError`` for a newer database."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    found = version(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise StoreError(
            f"The store is of a newer Portico: its tables are {found}, here {HEAD} is known. Install that version, or "
            "name another store with --store.",
            param="store",
        )
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "portico.store:migrations")
    command.upgrade(config, "head")


def version(connection: Connection) -> str | None:
    """The step at which the tables are; None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return found
