"""The text as it comes, and the few moves that read it.

A reader is sequential code over a ``Tape``: a generator that yields when text runs out and goes on when more has come,
so it looks like the format it reads and any cut of the text gives the same result. Rules that keep it so, and fast:

- A decision is taken only when no further text could change it: a marker is recognised when it is whole, and text that
  could still become one waits. ``Markers`` compiles that question into one regular expression per set of markers (a
  trie whose every node may also be the end of the text), so ordinary text costs one search per piece, and none of the
  readers that wait inside each other is woken for it (``passes``).
- What waits is bounded: by the longest marker, by ``SPACE`` characters of white space, by the limits on names.
  The consumed part of the text is forgotten with every piece, so the work is linear in the length of the text.
- Readers do not look back. A suspicion keeps what it consumes (``Tape.keep``); when it was a false alarm that text is
  released whole, as text, and reading goes on where the alarm failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias, TypeVar

__all__ = [
    "SPACE", "Look", "Markers", "Read", "Tape", "attempt", "comes", "markers", "peek", "sequence", "space", "until"
]  # fmt: skip

Read: TypeAlias = Generator[None, None, str]  # a move over the tape; yields to wait for text
SPACE = 256  # white space looked over in one go; a longer run counts as text
_Found = TypeVar("_Found")
BLANK = " \t\r\n"
_BLANK = re.compile(r"[ \t\r\n]*")


class Markers:
    """A set of literal spellings, looked for together; the longest one wins.

    ``*>`` in a spelling stands for ``>`` with an optional checkpoint suffix in front of it, a colon and up to 16
    lower-case letters and digits (``<think*>`` finds ``<think>`` and ``<think:6124c78e>``); what is found is reported
    under the spelling given.
    """

    __slots__ = ("_final", "_open", "_spelled", "_suffixed", "begins", "spellings")

    def __init__(self, spellings: Iterable[str]) -> None:
        self.spellings = frozenset(s for s in spellings if s)
        ordered = sorted((s.replace("*>", f"{_STAR}>") for s in self.spellings), key=len, reverse=True)
        self._spelled = {s.replace(_STAR, ""): s.replace(_STAR, "*") for s in ordered}
        self._suffixed = any(_STAR in s for s in ordered)
        never = r"(?!)"
        self._final = re.compile("|".join(_pattern(s) for s in ordered) or never)
        trie: _Trie = {}
        for spelling in ordered:
            node = trie
            for char in spelling:
                node = node.setdefault(char, {})
            node[""] = {}
        self._open = re.compile("|".join(_branches(trie)) or never)
        self.begins = self._open.search  # finds nothing in text that more text cannot make a marker of

    def search(self, text: str, at: int, ended: bool) -> tuple[int, int, str] | None:
        """The first place where a marker stands or may yet stand: (start, end, spelling), spelling "" for may yet."""
        found = (self._final if ended else self._open).search(text, at)
        return None if found is None else self._verdict(found, text, ended)

    def match(self, text: str, at: int, ended: bool) -> tuple[int, int, str] | None:
        """As ``search``, for a marker that begins exactly at ``at``."""
        found = (self._final if ended else self._open).match(text, at)
        return None if found is None else self._verdict(found, text, ended)

    def _verdict(self, found: re.Match[str], text: str, ended: bool) -> tuple[int, int, str]:
        start, end = found.span()
        spelling = self._spelled.get(found.group())
        if spelling is None and self._suffixed:
            spelling = self._spelled.get(_SUFFIX.sub(">", found.group()))
        if spelling is None:
            return start, end, ""
        if not ended and end == len(text) and self._grows(spelling):
            return start, end, ""
        return start, end, spelling

    def _grows(self, spelling: str) -> bool:
        return any(other != spelling and other.startswith(spelling) for other in self.spellings)


_Trie: TypeAlias = "dict[str, _Trie]"
_STAR = "\0"
_SUFFIX = re.compile(r":[0-9a-z]{1,16}>")
_SUFFIX_PATTERN = "(?::[0-9a-z]{1,16})?"


def _pattern(spelling: str) -> str:
    return _SUFFIX_PATTERN.join(re.escape(part) for part in spelling.split(_STAR))


def _branches(node: _Trie) -> list[str]:
    """A regular expression per child: the child's character, then one of its own children or the end of the text."""
    found = []
    for char, child in node.items():
        if char == "":
            continue
        rest = _branches(child)
        if char == _STAR:
            tail = "|".join(rest)
            found.append(rf"(?:{tail}|\Z|:[0-9a-z]{{0,16}}(?:\Z|{tail}))")
            continue
        if "" in child:
            rest.append("")  # the marker may end here; longer ones were tried first
        elif rest:
            rest.append(r"\Z")
        found.append(re.escape(char) + ("(?:" + "|".join(rest) + ")" if rest != [""] else ""))
    return found


@lru_cache(maxsize=1024)
def markers(*spellings: str) -> Markers:
    """The compiled set for these spellings, shared by all readers."""
    return Markers(spellings)


class Tape:
    """The text that has come and is not consumed yet, from ``at`` on."""

    __slots__ = ("at", "awaited", "ended", "kept", "mark", "matched", "passing", "text")

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.mark = 0  # where the marker begins that ``until`` found last
        self.matched = ""  # that marker as it stands in the text
        self.ended = False  # nothing more will come
        self.awaited: Markers | None = None  # what the text that waits may yet become
        self.kept: list[str] | None = None  # what a suspicion has consumed so far
        # set while ``until`` waits with nothing in hand: what finds the beginning of a marker, what takes other text
        self.passing: tuple[Callable[[str], object], Callable[[str], None]] | None = None

    def passes(self, text: str) -> bool:
        """Whether this text, which comes next, has gone where ``until`` would have passed it; else it is to be fed."""
        if self.passing is None or not text:
            return False
        begins, pass_on = self.passing
        if begins(text) is not None:
            return False
        if self.kept is not None:
            self.kept.append(text)
        pass_on(text)
        return True

    def feed(self, text: str) -> None:
        left = self.text[self.at :]
        self.text = left + text if left else text
        self.at = 0

    def take(self, end: int) -> str:
        """Consume up to position ``end`` of ``text`` and return it."""
        piece = self.text[self.at : end]
        self.at = end
        if self.kept is not None:
            self.kept.append(piece)
        return piece

    def back(self, text: str) -> None:
        """Text that was consumed last is to be read again."""
        self.text = text + self.text[self.at :]
        self.at = 0
        if self.kept is not None:
            kept = "".join(self.kept)
            self.kept = [kept[: len(kept) - len(text)]]

    def keep(self, already: str = "") -> None:
        """Begin a suspicion; ``already`` was consumed as part of it."""
        self.kept = [already]

    def release(self) -> str:
        """End a suspicion and give back everything it consumed."""
        kept, self.kept = self.kept or [], None
        return "".join(kept)

    def commit(self) -> None:
        """End a suspicion that has proved right."""
        self.kept = None


def peek(tape: Tape) -> Read:
    """The next character without consuming it; "" at the end of the text."""
    while tape.at >= len(tape.text):
        if tape.ended:
            return ""
        yield
    return tape.text[tape.at]


def space(tape: Tape) -> Read:
    """Consume white space, ``SPACE`` characters at most, and return the character behind it ("" at the end)."""
    left = SPACE
    while True:
        found = _BLANK.match(tape.text, tape.at, tape.at + left)
        end = found.end() if found else tape.at
        left -= end - tape.at
        if end > tape.at:
            tape.take(end)
        if end < len(tape.text):
            return tape.text[end]
        if tape.ended:
            return ""
        yield


def comes(tape: Tape, wanted: Markers, take: bool = True) -> Read:
    """The marker that comes next, white space before it allowed; consumes both, or, where none comes, nothing.

    With ``take=False`` it only looks.
    """
    while True:
        found = _BLANK.match(tape.text, tape.at, tape.at + SPACE)
        start = found.end() if found else tape.at
        if start < len(tape.text):
            marker = wanted.match(tape.text, start, tape.ended)
            if marker is None:
                return ""
            if marker[2]:
                if take:
                    tape.take(marker[1])
                return marker[2]
        if tape.ended:
            return ""
        yield


def sequence(tape: Tape, wanted: Sequence[Markers]) -> Generator[None, None, bool]:
    """Whether one marker of each set comes, in this order, white space allowed between; looks without consuming."""
    while True:
        at = tape.at
        for marks in wanted:
            found = _BLANK.match(tape.text, at, at + SPACE)
            at = found.end() if found else at
            marker = marks.match(tape.text, at, tape.ended) if at < len(tape.text) else None
            if at >= len(tape.text) or (marker and not marker[2]):
                break
            if marker is None:
                return False
            at = marker[1]
        else:
            return True
        if tape.ended:
            return False
        yield


def attempt(tape: Tape, reader: Generator[None, None, _Found], take: bool = True) -> Generator[None, None, _Found]:
    """What a reader finds, consumed; where it finds nothing, or with ``take=False``, nothing is."""
    before, tape.kept = tape.kept, [""]
    found = yield from reader
    consumed, tape.kept = tape.release(), before
    if not found or not take:
        tape.text, tape.at = consumed + tape.text[tape.at :], 0
    elif before is not None:
        before.append(consumed)
    return found


def until(tape: Tape, wanted: Markers, pass_on: Callable[[str], None]) -> Read:
    """Pass text on up to the next marker, consume that and return its spelling; "" at the end of the text."""
    while True:
        found = wanted.search(tape.text, tape.at, tape.ended)
        if found is None:
            if tape.at < len(tape.text):
                pass_on(tape.take(len(tape.text)))
        else:
            start, end, spelling = found
            if start > tape.at:
                pass_on(tape.take(start))
            if spelling:
                tape.mark = start
                tape.matched = tape.take(end)
                return spelling
            tape.awaited = wanted
        if tape.ended:
            return ""
        if found is None:
            tape.passing = wanted.begins, pass_on
        yield
        tape.passing = None


class Look:
    """What comes next, read without consuming it. Good until the tape moves."""

    __slots__ = ("_offset", "_tape")

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._offset = 0

    def copy(self) -> Look:
        """The same place, to look on from."""
        found = Look(self._tape)
        found._offset = self._offset
        return found

    def char(self) -> Read:
        """The next character; "" at the end of the text."""
        while self._tape.at + self._offset >= len(self._tape.text):
            if self._tape.ended:
                return ""
            yield
        return self._tape.text[self._tape.at + self._offset]

    def skip(self) -> None:
        """Go past the character that ``char`` gave."""
        self._offset += 1

    def one_of(self, words: Collection[str]) -> Read:
        """Go past white space and the longest of these words behind it, and return that; "" (and nowhere) if none
        comes."""
        before = self._offset
        if words and (yield from self.space()):
            longest = max(map(len, words))
            while True:
                at = self._tape.at + self._offset
                ahead = self._tape.text[at : at + longest]
                if self._tape.ended or not any(len(w) > len(ahead) and w.startswith(ahead) for w in words):
                    break
                yield
            word = max((word for word in words if ahead.startswith(word)), key=len, default="")
            if word:
                self._offset += len(word)
                return word
        self._offset = before
        return ""

    def space(self) -> Read:
        """Go past white space, ``SPACE`` characters at most, and return the character behind it."""
        left = SPACE
        while (char := (yield from self.char())) and char in BLANK and left:
            self._offset += 1
            left -= 1
        return char

    def word(self, pattern: re.Pattern[str], longest: int) -> Read:
        """Go past what the pattern matches here, ``longest`` characters at most, and return it."""
        while True:
            at = self._tape.at + self._offset
            found = pattern.match(self._tape.text, at, at + longest)
            end = found.end() if found else at
            if end < len(self._tape.text) or self._tape.ended or end - at == longest:
                self._offset += end - at
                return self._tape.text[at:end]
            yield

    def marker(self, wanted: Markers) -> Read:
        """Go past white space and the marker behind it, and return that; "" (and nowhere) if none comes."""
        before = self._offset
        if (yield from self.space()):
            while True:
                found = wanted.match(self._tape.text, self._tape.at + self._offset, self._tape.ended)
                if found is None:
                    break
                if found[2]:
                    self._offset = found[1] - self._tape.at
                    return found[2]
                yield
        self._offset = before
        return ""
