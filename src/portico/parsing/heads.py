"""What stands in front of a tagged value: a parameter's opener, its key, and what the wire says of its type.

    <parameter=city>
    <parameter name="city" string="true">
    <arg_key>city</arg_key><arg_value>

Any of these markers may be lost, doubled, damaged by a character or another's. Behind such damage only a key is
believed that the tool declares and that has no value yet.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

from portico.parsing.json_text import Done
from portico.parsing.schema import Schema
from portico.parsing.tape import Look, Markers, Tape, attempt, comes, markers, space
from portico.parsing.wire import (
    BLANK,
    NEARLY,
    Attributes,
    Hole,
    Literal,
    Optional,
    Part,
    almost,
    attributes,
    cores,
    fill,
    spellings,
)

__all__ = ["Heads", "Members"]

Holes: TypeAlias = "dict[str, str]"

_SHORTEST = 3  # characters of an opener that is not doubled by chance
_KEY = re.compile(r"[\w.\-]*")
_LAST_WORD = re.compile(r"""([\w.\-]+)["'\s]*\Z""")
_LINE = re.compile(r"[^\n]*")
_WORD = re.compile(r"\w+")
_MARKUP = re.compile(r"\s*(?:[<\[\]][^\s<>\[\]]{0,40}>?)*")  # nothing, or the beginning of another family's marker
_LONGEST_KEY = 128
_LONGEST_DAMAGED = 40  # characters of a marker in place of a key's closer
_LONGEST_LOST = 96  # characters in front of a value whose opener is damaged


class Members:
    """The members of one call's arguments: those that the tool declares, and those that have come."""

    __slots__ = ("given", "schema", "tools")

    def __init__(self, schema: Schema | None, tools: Mapping[str, Schema]) -> None:
        self.schema = schema
        self.tools = tools
        self.given: dict[str, str] = {}  # short values so far, which tell the branches of a schema apart

    def declares(self, key: str) -> bool:
        return bool(key) and self.schema is not None and self.schema.member(key) is not None

    def expects(self, key: str) -> bool:
        """Whether it is declared and has no value yet."""
        return key not in self.given and self.declares(key)

    def welcomes(self, key: str) -> bool:
        """Whether it is expected, or nobody says what is."""
        return self.schema is None or self.schema.is_open or self.expects(key)

    def known(self, key: str) -> Schema | None:
        """What the schema says of a member."""
        return self.schema.member(key, self.given) if self.schema is not None else None

    def first_of(self, text: str) -> str:
        """The longest expected key that a text begins with."""
        return max((key for key in self._expected() if text.startswith(key)), key=len, default="")

    def last_of(self, text: str) -> str:
        """The longest expected key that a text ends with."""
        return max((key for key in self._expected() if text.endswith(key)), key=len, default="")

    @property
    def initials(self) -> set[str]:
        return {key[0] for key in self._expected() if key}

    def _expected(self) -> list[str]:
        names = [name for name, _, _ in self.schema.members()] if self.schema is not None else []
        return [name for name in names if name not in self.given]


@dataclass(frozen=True)
class Heads:
    """The heads of one format. ``template``: the parts in front of a value; ``closer`` ends the value.

    ``entities``: attributes write ``&quot;`` and ``&amp;``.
    """

    template: tuple[Part, ...]
    closer: str
    entities: bool = False

    @cached_property
    def openers(self) -> tuple[str, ...]:
        return cores(self.template)[:1]

    @cached_property
    def spelled(self) -> Markers:
        """The opener, and what models write in its place."""
        return markers(*(spelling for opener in self.openers for spelling in spellings(opener)))

    @cached_property
    def _key(self) -> Part:
        return self.template[1]

    @cached_property
    def _tagged_key(self) -> bool:
        """Whether the key stands between tags of its own."""
        return len(self.template) > 2 and isinstance(self._key, Hole) and self.template[2] != self.template[-1]

    @cached_property
    def _rest(self) -> tuple[Part, ...]:
        """What is read behind the opener: where a key has tags of its own, all but its opener may be lost."""
        first, *rest = self.template[1:]
        return (first, *map(_may_miss, rest)) if self._tagged_key else (first, *rest)

    @cached_property
    def _behind_key(self) -> tuple[str, ...]:
        return (*cores(self._rest[2:-1]), self._last)

    @cached_property
    def _last(self) -> str:
        """The marker in front of the value."""
        last = self.template[-1]
        return last.end if isinstance(last, Attributes) else last.core if isinstance(last, Literal) else ""

    def begin(self, tape: Tape, members: Members, marks: Markers) -> Done:
        """Whether a head comes; looks without consuming."""
        look = Look(tape)
        found = yield from look.marker(self.spelled)
        if found in self.openers and isinstance(self._key, Attributes):  # and no longer word that begins like it
            word = yield from look.word(_KEY, _LONGEST_KEY)
            return not word or word.endswith(self._key.pairs[0][0])
        return bool(found) or (yield from self._lost(tape, members, marks)) is not None

    def read(self, tape: Tape, members: Members, marks: Markers) -> Generator[None, None, Holes | None]:
        """Consume a head; its holes (``NEARLY`` among them where it is not as it should be), or None, and nothing
        consumed, if none comes. ``marks``: what ends the call."""
        if (yield from comes(tape, self.spelled, take=False)):
            for reader in (self._whole, self._run_in):
                holes = yield from attempt(tape, reader(tape, members, marks))
                if holes is not None:
                    return holes
        lost = yield from self._lost(tape, members, marks)
        if lost is None:
            return None
        holes, length = lost
        tape.take(tape.at + length)
        if self._tagged_key:
            yield from fill(tape, self._rest[1:2], holes)
            yield from attempt(tape, self._typed(tape, holes))
            yield from self._up_to_value(tape, holes, marks)
        elif not isinstance(self._key, Attributes):
            yield from fill(tape, self._rest[1:], holes)
        return holes

    def ahead(self, tape: Tape, members: Members, marks: Markers) -> Generator[None, None, str]:
        """The key of the head that comes, its opener unharmed; "" if none does. Looks without consuming."""
        holes = yield from attempt(tape, self._whole(tape, members, marks), take=False)
        return holes["key"] if holes is not None else ""

    def lost(self, tape: Tape, members: Members, marks: Markers) -> Done:
        """Whether a head comes whose opener is lost or damaged."""
        return (yield from self._lost(tape, members, marks)) is not None

    def _whole(self, tape: Tape, members: Members, marks: Markers) -> Generator[None, None, Holes | None]:
        """Consume a head whose opener is there; its holes, or None if what follows is none."""
        opened = yield from comes(tape, self.spelled)
        if not opened:
            return None
        while len(opened) > _SHORTEST and (yield from comes(tape, markers(opened))):
            pass  # written twice it counts once
        look = Look(tape)
        yield from look.space()
        key = yield from look.word(_KEY, _LONGEST_KEY)
        if self._tagged_key and (yield from look.space()) == "=" and members.declares(key):
            yield from space(tape)
            tape.take(tape.at + len(key))
            yield from comes(tape, markers("="))
            return {"key": key}  # <arg_key>key=value</arg_value>
        holes: Holes = {}
        rest, behind = (self._rest[:2], self._behind_key) if self._tagged_key else (self._rest, ())
        if not (yield from fill(tape, rest, holes, behind, self.entities)) or "key" not in holes:
            return None
        if not members.declares(holes["key"]) and (key := self._key_in(holes["key"], members)):
            holes |= {"key": key, NEARLY: holes["key"]}
        if (opened not in self.openers or NEARLY in holes) and not members.declares(holes["key"]):
            return None
        if self._tagged_key:
            yield from attempt(tape, self._typed(tape, holes))
            yield from self._up_to_value(tape, holes, marks)
        return holes

    def _typed(self, tape: Tape, holes: Holes) -> Done:
        """Consume what the wire says of the type, if it does so between key and value."""
        found: Holes = {}
        if not (yield from fill(tape, self._rest[2:-1], found, (self._last,))) or self.closer in found.get("type", ""):
            return False
        holes |= found
        return bool(found)

    def _key_in(self, text: str, members: Members) -> str:
        """The key with which a text begins whose rest is what is left of a damaged closer; "" if none does."""
        key = members.first_of(text)
        rest = text[len(key) :].strip(BLANK).removeprefix(self.openers[0])  # perhaps without its slash
        own = (self.closer, *self.openers)
        damaged = len(rest) <= _LONGEST_DAMAGED and '"' not in rest and not any(marker in rest for marker in own)
        return key if damaged else ""

    def _run_in(self, tape: Tape, members: Members, marks: Markers) -> Generator[None, None, Holes | None]:
        """Consume an opener and a key that runs into its value."""
        if not isinstance(self._key, Hole):
            return None
        while (yield from comes(tape, self.spelled)):
            pass
        yield from space(tape)
        text = yield from Look(tape).word(_LINE, _LONGEST_KEY)
        key = members.first_of(text)
        if not key:
            return None
        tape.take(tape.at + len(key))
        holes = {"key": key, NEARLY: text}
        if self._last:
            yield from self._up_to_value(tape, holes, marks)
        return holes

    def _up_to_value(self, tape: Tape, holes: Holes, marks: Markers) -> Generator[None, None, None]:
        """Consume the marker in front of the value, or what stands in its place."""
        last = markers(self._last)
        if (yield from comes(tape, last)):
            while (yield from comes(tape, last)):
                pass  # written twice it counts once
            return
        holes[NEARLY] = ""
        if (yield from almost(tape, self._last)):
            return
        wanted = markers(self._last, self.closer, *self.openers)
        while True:
            window = tape.text[tape.at : tape.at + _LONGEST_LOST]
            full = tape.ended or len(window) == _LONGEST_LOST
            found = wanted.search(window, 0, full)
            if (found is not None and found[2]) or full:
                break
            yield
        if found is None or found[2] not in (self._last, self.closer):
            return
        if found[2] == self._last:
            between = tape.take(tape.at + found[1])
            structure = yield from comes(tape, markers(*marks.spellings, *self.openers), take=False)
            if not structure:  # else it is a closer without its slash
                holes.update(("type", word) for word in _WORD.findall(between) if word in _TYPES)
                return
            tape.back(between)
            window = between
        tape.take(tape.at + self._junk(window[: found[0]], marks))

    def _junk(self, text: str, marks: Markers) -> int:
        """How many characters at the beginning of a text are a mark that has no business there, perhaps inside what is
        another family's marker."""
        found = marks.search(text, 0, True)
        if found is None or not _MARKUP.fullmatch(text[: found[0]]):
            return 0
        return found[1] + self._junk(text[found[1] :], marks)

    def _lost(self, tape: Tape, members: Members, marks: Markers) -> Generator[None, None, tuple[Holes, int] | None]:
        """The holes of a head whose opener is lost or damaged, and the length of it up to the end of the key; None if
        none comes. Looks without consuming."""
        part = self._key
        end = part.end if isinstance(part, Attributes) else next(iter(cores(self.template[2:])), "")
        if members.schema is None or not end:
            return None
        every = markers(*marks.spellings, *self.spelled.spellings)
        look = Look(tape)
        if (yield from look.marker(every)):  # most likely the call's end: wait for no more than a look
            char = yield from look.char()
            if not char or char not in (" " if isinstance(part, Attributes) else members.initials):
                return None
        offset = 0
        while True:
            window = tape.text[tape.at : tape.at + _LONGEST_LOST]
            full = tape.ended or len(window) == _LONGEST_LOST
            found = markers(end).search(window, offset, full)
            if found is None or not found[2]:
                if full:
                    return None
                yield
                continue
            chunk, offset = window[: found[0]], found[1]
            behind = chunk[self._junk(chunk, every) :]
            if self.closer in chunk or every.search(behind, 0, True) is not None:
                return None
            holes = self._lost_holes(behind, members)
            key = holes.get("key", "")
            if members.expects(key) and key not in members.tools:
                return holes, found[1] if isinstance(part, Attributes) else found[0]

    def _lost_holes(self, chunk: str, members: Members) -> Holes:
        """The holes of a head, by what stands in front of its end."""
        holes: Holes = {NEARLY: chunk}
        if isinstance(self._key, Attributes):
            attributes(chunk, self._key, holes, self.entities)
        elif word := _LAST_WORD.search(chunk):
            holes["key"] = members.last_of(word[1])
        return holes


_TYPES = frozenset(("string", "integer", "number", "boolean", "array", "object", "null"))


def _may_miss(part: Any) -> Any:
    if isinstance(part, Optional):
        return Optional((part.parts[0], *map(_may_miss, part.parts[1:])))
    return replace(part, may_miss=True) if isinstance(part, Literal) else part
