"""How many requests are in flight with each API key, over all workers: a table in memory that they share.

A row per worker, a column per key. A worker writes its own row alone, and begins with zeros, so what one that was
killed had counted is forgotten. While one looks and counts no other may: the file's lock, which ends with its holder.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["SharedCounts", "shared_table"]

WIDTH = 4  # bytes of a count


def shared_table(workers: int, keys: int) -> int:
    """The descriptor of a table for so many workers and keys, all zeros; for the workers to inherit."""
    with tempfile.TemporaryFile() as file:
        file.truncate(workers * max(1, keys) * WIDTH)
        return os.dup(file.fileno())


class SharedCounts:
    """One worker's view of the table; see ``portico.server.http.gate.Counts``.

    ``keys`` are the callers that can be told apart, in the order of the columns.
    """

    def __init__(self, table: int, row: int, keys: Sequence[str]) -> None:
        self._file = table
        self._columns = {key: column for column, key in enumerate(keys or [""])}
        self._counts = memoryview(mmap.mmap(table, 0)).cast("I")
        width = len(self._columns)
        self._own = row * width
        for column in range(width):
            self._counts[self._own + column] = 0

    def take(self, key: str, most: int) -> bool:
        """Count one more, unless there are ``most`` already."""
        column = self._columns[key]
        with self._locked():
            if sum(self._counts[column :: len(self._columns)]) >= most:
                return False
            self._counts[self._own + column] += 1
            return True

    def give(self, key: str) -> None:
        """One of ours is over."""
        with self._locked():
            self._counts[self._own + self._columns[key]] -= 1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
