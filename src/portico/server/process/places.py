"""Where the workers of a server count together what every API key has in flight and has used."""

from __future__ import annotations

import mmap
from functools import partial

from portico.inherited import locked, nameless
from portico.keys.accounts import Accounts, table_size

__all__ = ["shared_accounts", "shared_table"]


def shared_table(workers: int) -> int:
    """The descriptor of an empty table, for so many workers to inherit."""
    return nameless(table_size(workers))


def shared_accounts(table: int, workers: int, row: int) -> Accounts:
    """One worker's view of the table."""
    return Accounts(mmap.mmap(table, table_size(workers)), workers, row, partial(locked, table))
