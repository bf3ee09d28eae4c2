"""What every key has used of every model on every day, as one process counts it, until it is written down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["BY", "DAY", "Usage", "Used"]

BY: Final = ("key", "model", "day")  # what may be summed by
DAY: Final = 86400  # seconds
HELD: Final = 7  # days for which sums may still grow


class Used(NamedTuple):
    """The sums of a process: the key by its name, the model by the first name that it is served by, the day since 1970
    in UTC."""

    day: int
    key: str
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class Usage:
    """Counts."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, str, str], list[int]] = {}
        self._changed: set[tuple[int, str, str]] = set()

    def count(self, now: float, key: str, model: str, prompt: int, cached: int, completion: int) -> None:
        """One request that is over; ``now`` is in unix seconds."""
        what = int(now) // DAY, key, model
        sums = self._sums.setdefault(what, [0, 0, 0, 0])
        for index, amount in enumerate((1, prompt, cached, completion)):
            sums[index] += amount
        self._changed.add(what)

    def take(self) -> list[Used]:
        """The sums that have changed since they were last taken."""
        changed, self._changed = self._changed, set()
        last = max((what[0] for what in self._sums), default=0)
        for what in [what for what in self._sums if what[0] < last - HELD and what not in changed]:
            del self._sums[what]  # it is written down
        return [Used(*what, *self._sums[what]) for what in sorted(changed)]

    def back(self, taken: Iterable[Used]) -> None:
        """These could not be written down."""
        self._changed.update(one[:3] for one in taken)
