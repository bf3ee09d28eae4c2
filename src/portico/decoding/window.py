"""The general way to detokenize: ask the reference decoder about the last few tokens, again and again.

For vocabularies whose decoder is not a table of bytes (it looks ahead, drops repeats, rewrites). A window of recent
tokens is decoded at each step, and what it shows beyond what was given is new. Rules:

* U+FFFD at the end, three at most, may be a character still incomplete and waits.
* Where the decoder takes back what was given (a character half there can spoil those before it), the tokens since
  then are decoded by themselves.
* The window is kept short, also in a long run of invalid bytes, so that time is linear in the number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from portico.decoding.vocabulary import Vocabulary

__all__ = ["WindowDecoder"]

_CONTEXT = 8  # tokens kept before the new ones: enough for any character begun there, and for joining rules
_LIMIT = 24  # tokens in the window above which it is shortened
_HELD = 3  # an incomplete character is at most 3 bytes: at most 3 replacement characters


class WindowDecoder:
    """Feeds ``vocabulary.decode`` with a sliding window; ``hidden`` ids stand for no text."""

    __slots__ = ("_hidden", "_owed", "_settled", "_shown", "_vocabulary", "_window")

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
        self._settled = 0  # how many tokens of the window had been given whole when all was well last
        text = self._text(self._window)
        self._owed = _trailing(text)  # U+FFFD that are the prompt's own, should they turn out to stand
        self._shown = text[: len(text) - self._owed]  # what was given of the window's text

    def feed(self, ids: Sequence[int]) -> str:
        """The text that ``ids`` make known."""
        return "".join([self._feed(token_id) for token_id in ids if token_id not in self._hidden])

    def close(self) -> str:
        """The rest of the text."""
        text = self._text(self._window)
        if not text.startswith(self._shown):
            return self._text(self._window[self._settled :])
        return self._less_owed(text[len(self._shown) :])

    def _feed(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._text(self._window)
        held = _trailing(text)
        if not text.startswith(self._shown):
            del self._window[: self._settled]
            self._settled = 0
            self._shown = ""
            text = self._text(self._window)
            held = _trailing(text)
        new = text[len(self._shown) : len(text) - held]
        self._shown += new
        if not held:
            self._settled = len(self._window)
        if len(self._window) > _LIMIT:
            self._shorten(text, held)
        return self._less_owed(new)

    def _shorten(self, text: str, held: int) -> None:
        """Forget old tokens, at a place where the rest still means what it meant: not inside a character."""
        for size in range(_CONTEXT, _CONTEXT + 4):
            kept = self._text(self._window[-size:])
            if text.endswith(kept):
                break
        self._settled = max(0, self._settled - (len(self._window) - size))
        self._window = self._window[-size:]
        self._shown = kept[: len(kept) - min(held, _trailing(kept))]

    def _text(self, ids: Sequence[int]) -> str:
        return self._vocabulary.decode(ids, skip_special_tokens=False) if ids else ""

    def _less_owed(self, text: str) -> str:
        if text and self._owed:
            text = text.removeprefix("\ufffd" * self._owed)
            self._owed = 0
        return text


def _trailing(text: str) -> int:
    """How many U+FFFD end ``text``, three at most."""
    tail = text[-_HELD:]
    return len(tail) - len(tail.rstrip("\ufffd"))
