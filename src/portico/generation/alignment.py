"""Which tokens an answer's content is made of: thoughts, calls and markers have tokens too.

Per token go in the text it gave and what parsing made of the text so far; out come the logprobs of the tokens whose
text, or a part of it, is content, once that content is shown. A token that gives no text yet belongs to the character
that it begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from portico.events import Content, Event, TokenLogprob

__all__ = ["ContentTokens"]


@dataclass
class _Token:
    entry: TokenLogprob
    start: int  # in the answer's text, in characters
    end: int


class ContentTokens:
    """The alignment of one choice."""

    def __init__(self) -> None:
        self._entries: deque[TokenLogprob] = deque()  # given, of tokens whose text has not come
        self._tokens: deque[_Token] = deque()  # not yet known to be content or not
        self._found: deque[tuple[int, TokenLogprob]] = deque()  # where in the content each token of it begins
        self._text = ""  # all since the last content, up to ``_end``
        self._end = 0
        self._content = 0  # characters of content so far
        self._shown = 0  # and those that the client has got

    def expect(self, entries: Sequence[TokenLogprob]) -> None:
        """The logprobs of the tokens that ``feed`` gets next."""
        self._entries += entries

    def feed(self, text: str, events: Sequence[Event], held: str, *, token: bool = True) -> None:
        """One token's ``text``, or without a ``token`` the rest of the text; ``held`` is what parsing keeps back."""
        start, self._end = self._end, self._end + len(text)
        self._text += text
        if token and self._entries:
            self._tokens.append(_Token(self._entries.popleft(), start, start))
        if text:
            for one in reversed(self._tokens):
                if one.start < one.end:
                    break
                one.end = self._end
        known = self._end - len(held)
        for event in events:
            if isinstance(event, Content):
                self._place(event.text, known if event is events[-1] else None)

    def shown(self, characters: int) -> list[TokenLogprob]:
        """``characters`` more of the content are shown; the logprobs of the tokens that these begin or go on with."""
        self._shown += characters
        released = []
        while self._found and self._found[0][0] < self._shown:
            released.append(self._found.popleft()[1])
        return released

    def _place(self, text: str, end: int | None) -> None:
        """Find a piece of content, which ends at ``end`` if that is known.

        White space in front of a call comes out behind it, where more content does: the piece is then in two places.
        """
        base = self._end - len(self._text)
        if end is not None and end >= base:
            known = len(text)
            if not self._text.endswith(text, 0, end - base):
                known -= len(text) - len(text.lstrip())
                while known < len(text) and self._text[: end - base].endswith(text[-known - 1 :]):
                    known += 1
            if known < len(text):
                self._place(text[: len(text) - known], None)
            if known:
                self._take(text[-known:], end - known)
        else:
            self._take(text, base + max(0, self._text.find(text)))

    def _take(self, text: str, start: int) -> None:
        """The tokens of ``text``, which stands at ``start``; those before it are no content."""
        end = start + len(text)
        while self._tokens and self._tokens[0].start < end and self._tokens[0].start < self._tokens[0].end:
            one = self._tokens.popleft()
            if one.end > start:
                self._found.append((self._content + max(0, one.start - start), one.entry))
        self._content += len(text)
        self._text = self._text[len(self._text) - (self._end - end) :] if end < self._end else ""
