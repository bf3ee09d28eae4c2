"""How much the tests try: what fits into minutes, or with ``PORTICO_EXHAUSTIVE=1`` all there is, and ten times as many
examples of each law."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["EXHAUSTIVE", "examples", "some"]

Item = TypeVar("Item")
EXHAUSTIVE = bool(os.environ.get("PORTICO_EXHAUSTIVE"))


def examples(few: int) -> int:
    """How many examples a law is tried with; each run takes others."""
    return few * 10 if EXHAUSTIVE else few


def some(items: Iterable[Item], few: int, turn: int = 0) -> list[Item]:
    """All of them, or so few, as far apart as can be; the next turn takes the next ones, so that a law that holds for
    many families is tried with every item in one of them."""
    every = list(items)
    if EXHAUSTIVE or len(every) <= few:
        return every
    return [every[(turn + place * len(every) // few) % len(every)] for place in range(few)]
