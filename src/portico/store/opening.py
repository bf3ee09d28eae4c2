"""From what an operator writes after ``--store`` to a store."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from platformdirs import user_data_path
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from portico.errors import StoreError
from portico.extras import installing
from portico.store.database import Database
from portico.store.retention import Retention
from portico.store.store import Store
from portico.store.upkeep import Upkeep

__all__ = ["default_path", "open_store", "open_upkeep", "place"]

PATIENCE = 10.0  # seconds


def open_store(where: str, *, retention: Retention | None = None, patience: float = PATIENCE) -> Store:
    """The store at a path, ``sqlite:///PATH`` or ``postgresql://…``; it is reached by ``start``.

    ``patience`` is how long to wait for a lock or a connection, in seconds. Raises ``StoreError``.
    """
    return Store(Database(place(where), patience), retention or Retention())


def open_upkeep(where: str) -> Upkeep:
    """The store at that place, for an operator's hands. Raises ``StoreError``."""
    return Upkeep(Database(place(where), PATIENCE))


def default_path() -> Path:
    """Where the store lies unless one is named."""
    return user_data_path("portico", appauthor=False) / "portico.db"


def place(where: str) -> Path | URL:
    """A file, or the URL of a PostgreSQL database. Raises ``StoreError`` for what is neither."""
    if "://" not in where:
        if not where.strip() or where.startswith(":"):
            raise StoreError("The store has no place; give a file, postgresql://HOST/NAME, or none.", param="store")
        return Path(where).expanduser()
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        raise StoreError(
            "The store's URL cannot be read; postgresql://USER@HOST:PORT/NAME is one.", param="store"
        ) from None
    kind = url.drivername.split("+")[0]
    if kind == "sqlite" and url.database:
        return Path(url.database).expanduser()
    if kind not in ("postgresql", "postgres"):
        raise StoreError(f"There is no store at {kind}://; give a file, or postgresql://HOST/NAME.", param="store")
    if importlib.util.find_spec("psycopg") is None:
        raise StoreError(f"PostgreSQL needs one more package: {installing('postgres')}.", param="store")
    return url.set(drivername="postgresql+psycopg")
