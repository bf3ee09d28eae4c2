"""How much is worked on at a time: requests, in all and for one API key, and bytes of bodies.

A request takes a place once its body is here as a whole, and has it to the end of its answer. Bodies that arrive, or
wait to be read, hold no place, or clients that send slowly could keep everybody out; their bytes are bounded in all.
What is over a limit is refused at once, with a word on when to try again; waiting is the client's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from portico.errors import OverloadedError
from portico.keys import Key
from portico.keys.accounts import VISIT, Accounts

__all__ = ["Bodies", "Gate", "Held"]

RETRY_AFTER = 1  # seconds


class Gate:
    """``most`` requests at a time, of which ``most_per_key`` with the same API key (None: as many as there are), and
    within that key's own limits, as ``accounts`` counts them."""

    def __init__(self, most: int = 1024, most_per_key: int | None = None, accounts: Accounts | None = None) -> None:
        self._most = most
        self._most_per_key = most_per_key
        self._inside = 0
        self._accounts = accounts or Accounts()

    def bound(self, most: int, most_per_key: int | None) -> None:
        """These are the bounds now; nobody who is inside has to go."""
        self._most, self._most_per_key = most, most_per_key

    @contextmanager
    def passing(self, key: Key) -> Iterator[None]:
        """Hold a place while the block runs; ``VISIT`` counts what it uses. Raises ``OverloadedError`` (503) or
        ``RateLimitError`` (429)."""
        if self._inside >= self._most:
            raise OverloadedError(
                "Too many requests are in flight; try again.", code="queue_full", retry_after=RETRY_AFTER
            )
        visit = self._accounts.visit(key)
        VISIT.set(visit)
        visit.enter(self._most_per_key)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            visit.leave()

    def later(self, key: Key) -> None:
        """What nobody waits for takes no place; ``VISIT`` counts what it uses."""
        VISIT.set(self._accounts.visit(key, later=True))


class Bodies:
    """At most ``most`` bytes of bodies that are not read yet; when it is more, the largest of them gives way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._held: set[Held] = set()

    @contextmanager
    def holding(self) -> Iterator[Held]:
        """Count what ``Held.grow`` is told while the block runs; raises ``OverloadedError`` when it has to give way."""
        held = Held(self)
        self._held.add(held)
        try:
            yield held
        except asyncio.CancelledError:
            if not held.gives_way:
                raise
            held.task.uncancel()
            raise _too_much() from None
        finally:
            self._size -= held.size
            self._held.discard(held)

    def grow(self, held: Held, size: int) -> None:
        """``held`` has ``size`` bytes more."""
        held.size += size
        self._size += size
        if self._size <= self._most:
            return
        largest = max(self._held, key=lambda one: one.size)
        if largest is held:
            raise _too_much()
        self._size -= largest.size
        largest.size, largest.gives_way = 0, True
        largest.task.cancel()


class Held:
    """One body, in the task that reads it."""

    def __init__(self, bodies: Bodies) -> None:
        task: asyncio.Task[Any] | None = asyncio.current_task()
        assert task is not None
        self.task = task
        self.size = 0
        self.gives_way = False
        self._bodies = bodies

    def grow(self, size: int) -> None:
        """So many bytes more have come."""
        self._bodies.grow(self, size)


def _too_much() -> OverloadedError:
    return OverloadedError("Too many large bodies are arriving; try again.", code="queue_full", retry_after=RETRY_AFTER)
