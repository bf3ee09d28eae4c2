"""Stop strings: text passes through until one of them is complete.

The match that is complete first wins; of those complete at the same character, the longest. Text is held back only
while it is a real beginning of a stop string. One automaton (Aho and Corasick, 1975) reads every character once,
whatever the number of strings and however the text is cut.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["StopStrings"]


class _Automaton:
    """States are the beginnings of stop strings; the root is the empty one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.moves: list[dict[str, int]] = [{}]
        self.depth = [0]  # characters of the beginning that the state stands for
        self.match: list[str | None] = [None]  # the longest stop string that ends here
        self.fallback = [0]  # the longest proper suffix that is a beginning too
        for stop in stops:
            state = 0
            for char in stop:
                following = self.moves[state].get(char)
                if following is None:
                    following = len(self.moves)
                    self.moves[state][char] = following
                    self.moves.append({})
                    self.depth.append(self.depth[state] + 1)
                    self.match.append(None)
                    self.fallback.append(0)
                state = following
            self.match[state] = stop
        waiting = deque(self.moves[0].values())
        while waiting:
            state = waiting.popleft()
            for char, following in self.moves[state].items():
                self.fallback[following] = self.step(self.fallback[state], char)
                self.match[following] = self.match[following] or self.match[self.fallback[following]]
                waiting.append(following)
        firsts = "".join(re.escape(stop[0]) for stop in stops)
        self.first = re.compile(f"[{firsts}]")

    def step(self, state: int, char: str) -> int:
        moves, fallback = self.moves, self.fallback
        while True:
            following = moves[state].get(char)
            if following is not None:
                return following
            if state == 0:
                return 0
            state = fallback[state]


@lru_cache(maxsize=64)
def _automaton(stops: tuple[str, ...]) -> _Automaton:
    return _Automaton(stops)


class StopStrings:
    """Watches one stream of text for ``stops`` (none of them empty).

    With ``include``, the stop string itself is part of the text. ``matched`` is the string that matched, if any.
    """

    __slots__ = ("_automaton", "_held", "_include", "_state", "matched")

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        if not stops or not all(stops):
            raise ValueError("stop strings must not be empty")
        self._automaton = _automaton(tuple(stops))
        self._include = include
        self._state = 0
        self._held = ""
        self.matched: str | None = None

    def feed(self, text: str) -> tuple[str, str | None]:
        """The text that may be shown now, and the stop string that matched, if any; text after a match is dropped."""
        if self.matched is not None:
            return "", self.matched
        automaton, state = self._automaton, self._state
        at, end = 0, len(text)
        while at < end:
            if state == 0:
                candidate = automaton.first.search(text, at)
                if candidate is None:
                    break
                at = candidate.start()
            state = automaton.step(state, text[at])
            at += 1
            stop = automaton.match[state]
            if stop is not None:
                self.matched = stop
                seen = self._held + text[:at]
                self._held = ""
                return seen if self._include else seen[: len(seen) - len(stop)], stop
        self._state = state
        seen = self._held + text
        border = len(seen) - automaton.depth[state]
        self._held = seen[border:]
        return seen[:border], None

    @property
    def held(self) -> str:
        """The text held back: the beginning of a stop string."""
        return self._held

    def close(self) -> str:
        """The text has ended: what was held back is text after all. A new text may follow."""
        held, self._held, self._state = self._held, "", 0
        return held
