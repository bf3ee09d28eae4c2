"""How many requests are worked on at a time: in all, and for one API key.

Counted from a request's head to the end of its answer, so that bodies being read and prompts being made are bounded
too. What is over a limit is refused at once, with a word on when to try again; waiting is the client's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from portico.errors import OverloadedError, RateLimitError

__all__ = ["Gate"]

RETRY_AFTER = 1  # seconds


class Gate:
    """``most`` requests at a time, of which ``most_per_key`` with the same API key (None: as many as there are)."""

    def __init__(self, most: int = 1024, most_per_key: int | None = None) -> None:
        self._most = most
        self._most_per_key = most_per_key
        self._inside = 0
        self._by_key: Counter[bytes] = Counter()

    @contextmanager
    def passing(self, key: bytes) -> Iterator[None]:
        """Hold a place while the block runs. Raises ``OverloadedError`` (503) or ``RateLimitError`` (429)."""
        if self._inside >= self._most:
            raise OverloadedError(
                "Too many requests are in flight; try again.", code="queue_full", retry_after=RETRY_AFTER
            )
        if self._most_per_key is not None and self._by_key[key] >= self._most_per_key:
            raise RateLimitError(
                f"At most {self._most_per_key} requests may be in flight with one API key; try again.",
                retry_after=RETRY_AFTER,
            )
        self._inside += 1
        self._by_key[key] += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._by_key[key] -= 1
            if not self._by_key[key]:
                del self._by_key[key]
