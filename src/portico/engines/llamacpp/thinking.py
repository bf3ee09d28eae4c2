"""One answer's thoughts: whether one is open, how many tokens they have had, and what has to follow once that is all.

Pure: bytes of the sampled tokens in, the token that must come next out. Markers are looked for in bytes, because only
some vocabularies have them as tokens. Rules:

- A thought opens as the first thing of the answer or behind another thought. Any other text means that the model is
  done thinking, and nothing is looked for any more.
- Every token sampled while a thought is open counts. When the budget is used up, the closing ids follow.
- A character or a marker that the last token leaves unfinished is waited for, ``PATIENCE`` tokens at most: cut in the
  middle, it would show as a broken character or as half a marker.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from portico.events import ThoughtBudget

__all__ = ["Thoughts"]

PATIENCE: Final = 8  # tokens; a marker that is ordinary text has no more
_BLANK: Final = b" \t\r\n"


class Thoughts:
    """Keeps ``budget`` over one answer. ``piece`` gives the bytes of a token."""

    def __init__(self, budget: ThoughtBudget, piece: Callable[[int], bytes]) -> None:
        self._tokens, self._close, self._piece = budget.tokens, budget.close, piece
        self._openers = sorted((word.encode().strip(_BLANK) for word in budget.openers), key=len, reverse=True)
        self._closers = [word.encode().strip(_BLANK) for word in budget.closers]
        self._ends = re.compile(b"|".join(map(re.escape, self._closers)))
        self._open = budget.open
        self._text = b""  # what has come since the last marker; of an open thought, its end
        self._used = 0
        self._closing = 0  # closing ids that have come
        self.over = False  # the model is done thinking

    def must(self) -> int | None:
        """The token that comes next whatever the model says; None while it may choose."""
        if self._closing:
            return self._close[self._closing]
        late = self._used - self._tokens
        if self.over or not self._open or late < 0 or (late < PATIENCE and self._unfinished()):
            return None
        return self._close[0]

    @property
    def closing(self) -> bool:
        """Whether some of the closing ids have come and some have not."""
        return self._closing > 0

    def take(self, token: int) -> None:
        """The token that came."""
        if self.over:
            return
        if self._closing or token == self.must():
            self._closing += 1
            if self._closing == len(self._close):
                self._open, self._closing, self._text = False, 0, b""
            return
        self._used += self._open
        self._text += self._piece(token)
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Look for the marker that is next; True when it was there."""
        if self._open:
            end = self._ends.search(self._text)
            if end is None:
                self._text = self._text[-max(map(len, self._closers)) :]
                return False
            self._open, self._text = False, self._text[end.end() :]
            return True
        text = self._text.lstrip(_BLANK)
        for opener in self._openers:
            if text.startswith(opener):
                self._open, self._text = True, text[len(opener) :]
                return True
        self.over = not any(opener.startswith(text) for opener in self._openers)
        return False

    def _unfinished(self) -> bool:
        """Whether the text ends inside a character, or with what may be the beginning of a closing marker."""
        for length in range(1, min(4, len(self._text)) + 1):
            lead = self._text[-length]
            if lead >= 0xC0:
                return length < (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4)
            if lead < 0x80:
                break
        return any(self._text.endswith(closer[:length]) for closer in self._closers for length in range(1, len(closer)))
