"""Cutting the tokens that stand for themselves out of a text, before the algorithm proper sees it.

For tokenizers whose library does not do that: SentencePiece and RWKV. At each place the longest token wins, as in
``tokenizers`` and llama.cpp. Time is linear in the text for the vocabularies there are: only places where some token's
first character stands are looked at, and there one dictionary look-up is made per length.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

__all__ = ["SpecialSplitter"]


class SpecialSplitter:
    """Splits by ``tokens`` (text -> id). Those in ``rstrip`` (ids) also swallow the white space after them."""

    def __init__(self, tokens: Mapping[str, int], rstrip: Collection[int] = ()) -> None:
        self._tokens = {text: token_id for text, token_id in tokens.items() if text}
        self._rstrip = frozenset(rstrip)
        lengths: dict[str, set[int]] = {}
        for text in self._tokens:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(sizes, reverse=True) for first, sizes in lengths.items()}
        self._firsts = re.compile("[" + re.escape("".join(lengths)) + "]") if lengths else None

    def split(self, text: str) -> Iterator[str | int]:
        """The pieces of ``text`` in order: ids of tokens found, and the text between them (never empty)."""
        if self._firsts is None:
            if text:
                yield text
            return
        start = position = 0
        while (found := self._firsts.search(text, position)) is not None:
            position = found.start()
            for length in self._lengths[text[position]]:
                token_id = self._tokens.get(text[position : position + length])
                if token_id is not None:
                    if position > start:
                        yield text[start:position]
                    yield token_id
                    position += length
                    if token_id in self._rstrip:
                        while position < len(text) and text[position].isspace():
                            position += 1
                    start = position
                    break
            else:
                position += 1
        if start < len(text):
            yield text[start:]
