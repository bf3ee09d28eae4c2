"""Sliding windows over memory that several processes may share.

A window is a ring of slots of equal width, one more than it is long: what is counted leaves when its slot has left the
window as a whole. So the sum of the ring is never less than what was counted in the window that ends now, and a limit
that is held over it is held in every window, wherever that begins. What it costs is that a place is free again up to
one slot's width late.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["DAY", "MINUTE", "Snapshot", "Span", "Window"]


class Span(NamedTuple):
    """How long a window is: so many slots of so many seconds."""

    width: float
    slots: int

    @property
    def words(self) -> int:
        """The 64-bit numbers that a window needs: two rings, each with the number of its newest slot before it."""
        return 2 * (self.slots + 2)


MINUTE: Final = Span(1.0, 60)
DAY: Final = Span(900.0, 96)


class Snapshot(NamedTuple):
    """A ring by itself: the number of its newest slot, and what all its slots count, that one's last."""

    newest: int
    counts: list[int]


class _Ring:
    """``view``: the number of the newest slot since 1970, then what each slot counts, at its number modulo the size."""

    def __init__(self, view: memoryview[int], span: Span) -> None:
        self._view = view
        self._counts = view[1:]
        self._size = span.slots + 1

    def advance(self, current: int) -> int:
        """Forget what has left the window in which ``current`` is the newest slot; returns the newest one. A clock that
        was set back a little stands still, one that was set back far begins anew."""
        view, size = self._view, self._size
        newest = view[0]
        if current > newest or newest - current >= size:
            gone = range(newest + 1, current + 1) if newest < current < newest + size else range(size)
            for slot in gone:
                self._counts[slot % size] = 0
            view[0] = newest = current
        return newest

    def add(self, amount: int, slot: int) -> None:
        """Count in a slot; if that has left, nothing is to be done."""
        if 0 <= self._view[0] - slot < self._size:
            index = slot % self._size
            self._counts[index] = max(0, self._counts[index] + amount)

    def sum(self) -> int:
        return sum(self._counts)

    def snapshot(self) -> Snapshot:
        newest, size = self._view[0], self._size
        return Snapshot(newest, [self._counts[slot % size] for slot in range(newest - size + 1, newest + 1)])


class Window:
    """What one server has counted, and beside it what others have told that they have. Times are unix seconds."""

    def __init__(self, view: memoryview[int], span: Span) -> None:
        half = span.words // 2
        self._width = span.width
        self._size = span.slots + 1
        self._own, self._others = _Ring(view[:half], span), _Ring(view[half:], span)

    def add(self, amount: int, now: float) -> int:
        """Count; the number of the slot that it was counted in."""
        slot = self._advance(now)
        self._own.add(amount, slot)
        return slot

    def correct(self, amount: int, slot: int, now: float) -> None:
        """Count in a slot of the past, unless it has left."""
        self._advance(now)
        self._own.add(amount, slot)

    def total(self, now: float) -> int:
        """What was counted in the window that ends now."""
        self._advance(now)
        return self._own.sum() + self._others.sum()

    def wait(self, room: int, now: float) -> float:
        """Seconds until at most ``room`` is counted, if nothing is added."""
        over = self.total(now) - room
        if over <= 0:
            return 0.0
        (newest, own), (_, others) = self._own.snapshot(), self._others.snapshot()
        for slot, (mine, theirs) in enumerate(zip(own, others, strict=True), newest - self._size + 1):
            over -= mine + theirs
            if over <= 0:
                return max(0.0, (slot + self._size) * self._width - now)
        return self._size * self._width

    def snapshot(self, now: float) -> Snapshot:
        """What this server has counted, for others."""
        self._advance(now)
        return self._own.snapshot()

    def hear(self, told: Iterable[Snapshot], now: float) -> None:
        """That is what others have counted, all of them together."""
        newest = self._advance(now)
        ours = self._others.snapshot()
        for age in range(self._size):
            self._others.add(-ours.counts[-1 - age], newest - age)
        for one in told:
            for age, count in enumerate(reversed(one.counts)):
                self._others.add(count, min(one.newest - age, newest))  # a clock that is ahead is told nothing of

    def _advance(self, now: float) -> int:
        current = int(now // self._width)
        newest = self._own.advance(current)
        return self._others.advance(newest)
