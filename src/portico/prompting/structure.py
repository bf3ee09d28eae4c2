"""What a user says cannot become structure: which spellings are control tokens, and who wrote them.

A chat template puts control tokens and clients' texts into one string, and a tokenizer reads ``<|im_end|>`` as a token
whoever wrote it. Here a control token counts only where the template wrote all of it:

    * ``Structure.concerns`` says, quickly, whether clients' texts could spell a control token, or a part of one that is
      completed by the template or by another text put beside it. If not, nothing is done differently.
    * If so, the conversation is rendered with texts that know who wrote them (``said``, ``tracking``), and
      ``Structure.pieces`` cuts the result: ids of the control tokens that the template wrote, and the text in between,
      which ``Tokenizer.encode_pieces`` takes as text whatever it spells.

Which tokens these are, ``Tokenizer.structure`` says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from itertools import groupby
from typing import Any

import msgspec

from portico.prompting.said import Said, plain
from portico.prompting.syntax import Syntax
from portico.prompting.tokenizers import Tokenizer

__all__ = ["Structure"]

# Operations of templates that may make a control token of what spells none.
REWRITES = frozenset(
    {"replace", "upper", "lower", "title", "capitalize", "swapcase", "casefold", "format", "translate"}
)
BLANK = r"(?:\\[nrt]| )*"  # what a template may trim away, as JSON spells it
END = BLANK + '"'
NOTHING = re.compile(r"(?!)")
REMEMBERED = 256  # templates and beginnings


class Structure:
    """The control tokens of ``tokenizer``, and how clients' texts can come to spell them.

    ``own`` are the model family's markers of thoughts and calls: an answer that the model is to continue may hold them,
    since the caller goes on with the model's own text there; never tokens that end a turn.
    """

    def __init__(self, tokenizer: Tokenizer, own: Collection[str] = ()) -> None:
        self.tokens = dict(tokenizer.structure)
        ends = tokenizer.eos_token_ids
        self.own = tuple(sorted(word for word in own if word in self.tokens and self.tokens[word] not in ends))
        self._folds = tokenizer.folds
        self._spellings = {_in_json(text) for text in self.tokens}
        self._firsts = {text[0] for text in self._spellings} - {"["}  # which is everywhere in JSON
        self._beginnings = {text[:n] for text in self.tokens for n in range(1, len(text))}
        self._by_texts: dict[frozenset[str], frozenset[str]] = {}
        self._by_beginning: dict[str, re.Pattern[str]] = {}

    @cached_property
    def _written(self) -> re.Pattern[str]:
        """A control token."""
        return re.compile(_any_of(self.tokens))

    @cached_property
    def _spelled(self) -> re.Pattern[str]:
        """In JSON: a control token, or one begun at the end of a text. Half a second for a thousand of them."""
        return re.compile(_any_of(self._spellings, f"(?={END})"))

    def warm(self) -> None:
        """Find out now what the first requests would otherwise wait for."""
        self._spelled, self._written  # noqa: B018  (looking at them makes them)

    def concerns(self, syntax: Syntax, *values: object) -> bool:
        """Whether ``values``, all that a prompt is made of and that clients wrote, need a closer look.

        ``syntax`` says what the template says and does by itself.
        """
        if not self.tokens:
            return False
        try:
            json = msgspec.json.encode(values).decode()
        except (TypeError, ValueError, RecursionError, OverflowError):
            return True  # nearly JSON, such as lone surrogates
        begun: set[str] = set()
        for found in self._spelled.findall(json):
            if found in self._spellings:
                return True
            begun.add(found)
        if self._folds or not syntax.operations.isdisjoint(REWRITES):
            if begun or self._begun_by(syntax) or (self._folds and not json.isascii()):
                return True
            return any(first in json for first in self._firsts)
        return any(self._rests(beginning).search(json) for beginning in (*begun, *self._begun_by(syntax)))

    def pieces(self, text: Said) -> list[str | int]:
        """``text`` in order: ids of the control tokens that the template wrote, and the texts between them."""
        pieces: list[str | int] = []
        for run, by_client in _runs(text):
            at = 0
            for token in () if by_client else self._written.finditer(run):
                _append(pieces, run[at : token.start()])
                pieces.append(self.tokens[token.group()])
                at = token.end()
            _append(pieces, run[at:])
        return pieces

    def _begun_by(self, syntax: Syntax) -> frozenset[str]:
        """The beginnings of control tokens with which a text of the template's own ends, as JSON spells them."""
        known = self._by_texts.get(syntax.texts)
        if known is None:
            longest = max(map(len, self._beginnings), default=0)
            ends = {text[-n:] for text in syntax.texts for n in range(1, min(longest, len(text)) + 1)}
            known = frozenset(_in_json(end) for end in ends & self._beginnings)
            _remember(self._by_texts, syntax.texts, known)
        return known

    def _rests(self, beginning: str) -> re.Pattern[str]:
        """In JSON: a text that begins with what completes ``beginning`` to a control token, or is a part of that."""
        pattern = self._by_beginning.get(beginning)
        if pattern is None:
            size = len(beginning)
            rests = [text[size:] for text in self._spellings if text.startswith(beginning) and len(text) > size]
            pattern = re.compile(f'"{BLANK}{_any_of(rests, END)}')
            _remember(self._by_beginning, beginning, pattern)
        return pattern


def _remember(known: dict[Any, Any], key: object, value: object) -> None:
    if len(known) >= REMEMBERED:
        known.clear()
    known[key] = value


def _in_json(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]


def _any_of(words: Iterable[str], broken_off: str | None = None) -> str:
    """A pattern for the longest of ``words``; with ``broken_off`` also for a beginning of one before that pattern."""
    words = sorted({word for word in words if word})
    return _branches(words, 0, broken_off) if words else NOTHING.pattern


def _branches(words: list[str], depth: int, broken_off: str | None) -> str:
    """What may follow after ``depth`` characters that ``words``, sorted, have in common."""
    is_word = len(words[0]) == depth
    longer = words[is_word:]
    branches = [
        re.escape(character) + _branches(list(group), depth + 1, None if is_word else broken_off)
        for character, group in groupby(longer, lambda word: word[depth])
    ]
    if is_word:
        return f"(?:{'|'.join(branches)})?" if branches else ""
    if broken_off is not None and depth:
        branches.append(broken_off)
    return f"(?:{'|'.join(branches)})" if len(branches) > 1 else branches[0]


def _runs(text: Said) -> Iterator[tuple[str, bool]]:
    """The text in runs of one author: text, and whether it was a client."""
    known, at = plain(text), 0
    for by_client, run in groupby(text.by_client):
        size = sum(1 for _ in run)
        yield known[at : at + size], bool(by_client)
        at += size


def _append(pieces: list[str | int], text: str) -> None:
    if text and pieces and isinstance(pieces[-1], str):
        pieces[-1] += text
    elif text:
        pieces.append(text)
