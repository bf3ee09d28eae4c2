"""Where the workers of a server count together what every API key has in flight and has used."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from portico.keys.accounts import Accounts, table_size

__all__ = ["shared_accounts", "shared_table"]


def shared_table(workers: int) -> int:
    """The descriptor of an empty table, for so many workers to inherit."""
    with tempfile.TemporaryFile() as file:
        file.truncate(table_size(workers))
        return os.dup(file.fileno())


def shared_accounts(table: int, workers: int, row: int) -> Accounts:
    """One worker's view of the table."""
    return Accounts(mmap.mmap(table, table_size(workers)), workers, row, partial(_locked, table))


@contextmanager
def _locked(table: int) -> Iterator[None]:
    """While one looks and counts no other may; a lock ends with its holder."""
    fcntl.lockf(table, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(table, fcntl.LOCK_UN)
