"""The general way to detokenize: ask the reference decoder about the last few tokens, again and again.

For vocabularies whose decoder is not a table of bytes (it looks ahead, drops repeats, trims). A window of recent tokens
is decoded at each step, and what it shows beyond what was given is new. U+FFFD at its end, three at most, may be a
character still incomplete and waits. The window is kept short, also in a long run of invalid bytes, so that time is
linear in the number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from portico.decoding.vocabulary import Vocabulary

__all__ = ["WindowDecoder"]

_CONTEXT = 8  # tokens kept before the new ones: enough for any character begun there, and for joining rules
_LIMIT = 24  # tokens in the window above which it is cut back although something is held
_HELD = 3  # an incomplete character is at most 3 bytes: at most 3 replacement characters


class WindowDecoder:
    """Feeds ``vocabulary.decode`` with a sliding window; ``hidden`` ids stand for no text."""

    __slots__ = ("_hidden", "_owed", "_shown", "_vocabulary", "_window")

    def __init__(self, vocabulary: Vocabulary, hidden: frozenset[int], prompt_ids: Sequence[int] = ()) -> None:
        self._vocabulary = vocabulary
        self._hidden = hidden
        tail: list[int] = []
        for token_id in reversed(prompt_ids):
            if token_id not in hidden:
                tail.append(token_id)
                if len(tail) == _CONTEXT:
                    break
        self._window = tail[::-1]
        text = self._text()
        self._owed = _trailing(text)  # U+FFFD that are the prompt's own, should they turn out to stand
        self._shown = len(text) - self._owed

    def feed(self, ids: Sequence[int]) -> str:
        hidden, step = self._hidden, _LIMIT - _CONTEXT
        seen = [i for i in ids if i not in hidden]
        return "".join([self._feed(seen[start : start + step]) for start in range(0, len(seen), step)])

    def close(self) -> str:
        return self._settle(self._text()[self._shown :])

    def _feed(self, ids: list[int]) -> str:
        self._window += ids
        text = self._text()
        held = _trailing(text)
        new = text[self._shown : len(text) - held]
        self._shown = max(self._shown, len(text) - held)
        if not held or len(self._window) > _LIMIT:
            del self._window[:-_CONTEXT]
            kept = self._text()
            self._shown = len(kept) - min(held, _trailing(kept))
        return self._settle(new)

    def _text(self) -> str:
        return self._vocabulary.decode(self._window, skip_special_tokens=False) if self._window else ""

    def _settle(self, text: str) -> str:
        if text and self._owed:
            text = text.removeprefix("\ufffd" * self._owed)
            self._owed = 0
        return text


def _trailing(text: str) -> int:
    """How many U+FFFD end ``text``, three at most."""
    tail = text[-_HELD:]
    return len(tail) - len(tail.rstrip("\ufffd"))
