"""What those who run batches tell of their work, for whoever counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Meter"]


class Meter(Protocol):
    """Counts the work on batches."""

    def lines(self, outcome: str, cause: str, count: int) -> None:
        """So many lines have come out so; ``cause`` is the error's code, empty where there is none."""
        ...

    def batch(self, kind: str, status: str) -> None:
        """A batch of that API has ended so."""
        ...

    def backlog(self, batches: Mapping[str, int], lines: Mapping[str, int]) -> None:
        """So many batches, and lines of them, have not ended, by state: those that this process runs, and those that
        wait, of which one process tells."""
        ...
