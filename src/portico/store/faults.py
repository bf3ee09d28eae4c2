"""What databases raise, as one line for a client.

SQLite's faults are told apart by their texts, PostgreSQL's by five letters of the SQL standard.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

from portico.errors import StoreError

__all__ = ["busy", "fault", "is_lost", "lost", "spoken"]

FULL: Final = "The server's store is full; nothing can be kept until there is room."
BUSY: Final = "The server's store is too busy; try again."
READ_ONLY: Final = "The server's store cannot be written to."
DAMAGED: Final = "The server's store is damaged."
LOST: Final = "The server's store cannot be reached; try again."

# the beginnings of SQLSTATEs
STATES: Final = {
    "53": FULL,
    "55P03": BUSY,
    "40": BUSY,
    "25006": READ_ONLY,
    "42501": READ_ONLY,
    "XX001": DAMAGED,
    "XX002": DAMAGED,
}

# parts of what SQLite says
SAID: Final = {
    "database or disk is full": FULL,
    "database is locked": BUSY,
    "database table is locked": BUSY,
    "readonly database": READ_ONLY,
    "malformed": DAMAGED,
    "not a database": DAMAGED,
}


def fault(error: Exception) -> StoreError:
    """What a client is told of a database's ``error``."""
    text = _text(error)
    return StoreError(text, retry_after=None if text in (READ_ONLY, DAMAGED) else 1)


def lost() -> StoreError:
    """What a client is told of a database that cannot be reached."""
    return StoreError(LOST, retry_after=1)


def busy() -> StoreError:
    """What a client is told while too much waits for the database."""
    return StoreError(BUSY, retry_after=1)


def is_lost(error: Exception) -> bool:
    """Whether the database cannot be reached."""
    return _text(error) == LOST


def _text(error: Exception) -> str:
    cause = _cause(error)
    state: str | None = getattr(cause, "sqlstate", None)
    if state is not None:
        return next((text for sign, text in STATES.items() if state.startswith(sign)), LOST)
    if isinstance(cause, sqlite3.Error):
        return next((text for sign, text in SAID.items() if sign in str(cause)), LOST)
    return LOST


def spoken(error: Exception) -> str:
    """What a log is told of it: one line, without the statement and its values."""
    cause = _cause(error)
    said = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return " ".join(said.split()).rstrip(".")


def _cause(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
