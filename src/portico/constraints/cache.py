"""A memory of results for what clients send again and again, bounded in entries and in bytes.

Keys come from clients, so nothing may grow with their number or size: the least recently used entry goes first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["BoundedCache"]

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """At most ``entries`` values, whose sizes add up to at most ``size``. Any thread may use it."""

    def __init__(self, entries: int, size: int) -> None:
        self.entries = entries
        self.size = size
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """The value of ``key``, which is then the most recently used; None when it is not here."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Remember ``value``, ``size`` bytes with its key. What alone is larger than the cache is not remembered."""
        with self._lock:
            if key in self._values:
                self._used -= self._values.pop(key)[1]
            if size > self.size:
                return
            self._values[key] = (value, size)
            self._used += size
            while len(self._values) > self.entries or self._used > self.size:
                self._used -= self._values.popitem(last=False)[1][1]

    def __len__(self) -> int:
        return len(self._values)
