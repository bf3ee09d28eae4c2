"""Files without a name, by their descriptors: processes that inherit one share what is in it. POSIX alone has them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["locked", "nameless"]


def nameless(size: int = 0) -> int:
    """The descriptor of a file of so many bytes, all zeros."""
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())


@contextmanager
def locked(file: int) -> Iterator[None]:
    """No other process is in such a block over the file meanwhile; a lock ends with its holder."""
    fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)
