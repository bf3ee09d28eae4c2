"""Wire templates: how a piece of a format looks, written once, to be read, written and constrained.

A template is the text as a model writes it with ``{holes}``: ``<parameter={key}>\\n{value}\\n</parameter>\\n``.
Reading is tolerant where models are: white space around a literal may be missing or more, attributes
(``name="{name}"``) may come in any order and with any quotes, and a part in ``«guillemets»`` may be absent. Writing is
exact: the template, filled.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from portico.parsing.json_text import Done
from portico.parsing.tape import SPACE, Tape, comes, markers, peek, space

__all__ = [
    "NEARLY",
    "Attributes",
    "Hole",
    "Literal",
    "Optional",
    "Part",
    "Words",
    "almost",
    "attributes",
    "cores",
    "fill",
    "fill_in",
    "first",
    "literals",
    "parts",
    "plain",
    "spellings",
    "split_at",
]  # fmt: skip

BLANK = " \t\r\n"
_LONGEST_NAME = 256
_LONGEST_TAG = 4096
_LONG = 6  # characters of a literal in which one may be wrong
_SHORTEST = 3  # characters of a literal that is not doubled by chance
_PIECES = re.compile(r'«(?P<optional>[^»]*)»|(?P<tag>(?:\s+[A-Za-z_]\w*="[^"]*")+)|\{(?P<hole>[a-z]+)\}')
_ATTRIBUTE = re.compile(r"""([A-Za-z_]\w*)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+))""")
FENCE = "```json"
NEARLY = "nearly"  # the hole of what is written almost as it should be
_ALONE = re.compile(r"""\s*[=:]?\s*["']?([\w.\-:/]+)["']?\s*/?""")
_WRITTEN = re.compile(r'([A-Za-z_]\w*)="([^"]*)"')
_NAME = re.compile(r"[^\s<>{}\[\]()\"'`=,;]*")
_QUOTED = re.compile(r"""(["'])(.*)\1""", re.DOTALL)
_STRICT = frozenset({"name", "id"})
_STRUCTURE = re.compile(r"[{}\n]")  # what stands in no hole but a key


@dataclass(frozen=True)
class Literal:
    """``may_miss``: it may be left out, which is nearly right."""

    text: str
    may_miss: bool = False

    @property
    def core(self) -> str:
        return self.text.strip(BLANK)


@dataclass(frozen=True)
class Hole:
    name: str


@dataclass(frozen=True)
class Attributes:
    """``name="{name}" kind="x"`` up to ``end``; the first attribute must be there, the rest may be missing."""

    pairs: tuple[tuple[str, str], ...]
    end: str


@dataclass(frozen=True)
class Optional:
    parts: tuple[Part, ...]


Part: TypeAlias = "Literal | Hole | Attributes | Optional"


@lru_cache(maxsize=1024)
def parts(template: str) -> tuple[Part, ...]:
    """The parts of a template."""
    found: list[Part] = []
    at = 0
    for piece in _PIECES.finditer(template):
        if piece.start() > at:
            found += _literals(template[at : piece.start()])
        at = piece.end()
        if piece["optional"] is not None:
            found.append(Optional(parts(piece["optional"])))
        elif piece["hole"] is not None:
            found.append(Hole(piece["hole"]))
        else:
            end = "<|sep|>" if template.startswith("<|sep|>", at) else template[at]
            found.append(Attributes(tuple(_WRITTEN.findall(piece["tag"])), end))
            at += len(end)
    if at < len(template):
        found += _literals(template[at:])
    return tuple(found)


def _literals(text: str) -> list[Literal]:
    """A literal per line and per tag: white space between them is as free as that around them."""
    return [Literal(piece) for piece in re.findall(r"\s*\S(?:[^\n>]|>(?!<))*>?\n*|\s+", text)]


Words: TypeAlias = "str | tuple[str, ...]"  # a marker, or its alternatives, the written one first


def literals(words: Words) -> tuple[str, ...]:
    """The markers among these words, without white space around them; a fence may lack its language."""
    every = (words,) if isinstance(words, str) else words
    fences = (word.replace(FENCE, FENCE[:3]) for word in every if FENCE in word)
    return tuple(dict.fromkeys(word.strip(BLANK) for word in (*every, *fences) if word.strip(BLANK)))


def first(words: Words) -> str:
    """The marker that is written."""
    return plain(words if isinstance(words, str) else words[0])


def cores(template: Sequence[Part]) -> tuple[str, ...]:
    """The literals that a text of this template may begin with; none if it begins with a hole."""
    found: list[str] = []
    for part in template:
        if isinstance(part, Literal) and part.core:
            return (*found, part.core)
        if isinstance(part, Optional):
            found += cores(part.parts)
        elif isinstance(part, Hole | Attributes):
            break
    return tuple(found)


def split_at(template: Sequence[Part], name: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """What stands before and after a hole."""
    at = next(i for i, part in enumerate(template) if isinstance(part, Hole) and part.name == name)
    return tuple(template[:at]), tuple(template[at + 1 :])


def fill(
    tape: Tape, template: Sequence[Part], holes: dict[str, str], after: Sequence[str] = (), entities: bool = False
) -> Done:
    """Read a text of this template into ``holes``. ``after``: literals that may follow it, to end a trailing hole.

    False at the first thing that does not fit. Where it fits nearly (``<function name>`` for ``<function=name>``),
    there is a hole ``NEARLY`` as well. ``entities``: attributes write ``&quot;`` and ``&amp;``.
    """
    for index, part in enumerate(template):
        if isinstance(part, Literal):
            if part.core:
                found = yield from comes(tape, markers(*spellings(part.core)))
                if not (
                    found
                    or (index and (yield from almost(tape, part.core)))
                    or (part.core == FENCE and (yield from comes(tape, markers(FENCE[:3]))))
                    or part.may_miss
                ):
                    return False
                if found != part.core:
                    holes[NEARLY] = found
                while len(found) > _SHORTEST and (yield from comes(tape, markers(part.core))):
                    pass  # written twice it counts once
        elif isinstance(part, Hole):
            text = yield from _read_hole(tape, part.name, template[index + 1 :], after)
            if text is None:
                return False
            holes[part.name] = text
        elif isinstance(part, Attributes):
            inside = yield from _tag(tape, part.end)
            if inside is None or not attributes(inside, part, holes, entities):
                return False
        elif (not cores(part.parts) or (yield from comes(tape, markers(*cores(part.parts)), take=False))) and not (
            yield from fill(tape, part.parts, holes, _follow(tuple(template[index + 1 :]), tuple(after)), entities)
        ):
            return False
    return True


def almost(tape: Tape, literal: str) -> Done:
    """Consume a literal in which one character is missing, wrong, or too much; whether it was there."""
    literal = plain(literal)
    if len(literal) < _LONG:
        return False
    while True:
        ahead = tape.text[tape.at : tape.at + SPACE]
        start = tape.at + len(ahead) - len(ahead.lstrip(BLANK))
        if start - tape.at == SPACE:
            return False
        text = tape.text[start : start + len(literal) + 1]
        length = _edited(text, literal)
        if length is not None or len(text) > len(literal) or tape.ended:
            break
        yield
    if length:
        tape.take(start + length)
    return bool(length)


def _edited(text: str, literal: str) -> int | None:
    """How many characters of a text are this literal, but for one of them; 0 if none are, None if more must come."""
    at = next((i for i, (a, b) in enumerate(zip(text, literal, strict=False)) if a != b), len(text))
    if at == len(text):
        return None
    rests = (
        (text[at + 1 :], literal[at:], 1),
        (text[at + 1 :], literal[at + 1 :], 0),
        (text[at:], literal[at + 1 :], -1),
    )
    if text[at] in "<[" or at == len(literal) - 1:  # what follows begins, rather than a character that is wrong
        rests = rests[::-1]
    whole = next((more for there, wanted, more in rests if there.startswith(wanted)), None)
    if whole is not None:
        return len(literal) + whole
    return None if any(wanted.startswith(there) for there, wanted, _ in rests) else 0


@lru_cache(maxsize=1024)
def spellings(core: str) -> tuple[str, ...]:
    """A literal, and what models write in its place where a name follows."""
    if not core.endswith("="):
        return (core,)
    word = core[:-1]
    return core, f"{word} name=", f"{word}:", f"{word} ", word


def _read_hole(
    tape: Tape, name: str, behind: Sequence[Part], after: Sequence[str]
) -> Generator[None, None, str | None]:
    follow = _follow(tuple(behind), tuple(after))
    yield from space(tape)
    if name in _STRICT:
        quote = yield from peek(tape)
        if quote in ('"', "'"):
            tape.take(tape.at + 1)
        while True:
            found = _NAME.match(tape.text, tape.at, tape.at + _LONGEST_NAME)
            end = found.end() if found else tape.at
            if end < len(tape.text) or tape.ended:
                break
            yield
        if end == tape.at:
            return None
        text = tape.take(end)
        if quote in ('"', "'") and (yield from peek(tape)) == quote:
            tape.take(tape.at + 1)
        if "\n" in follow and (yield from _newline(tape)):
            return text
        if " " in follow and (yield from peek(tape)) in BLANK:
            return text
        return text if (yield from comes(tape, markers(*follow), take=False)) else None
    wanted = markers(*follow)
    while True:
        limit = tape.at + _LONGEST_NAME
        hit = wanted.search(tape.text, tape.at, tape.ended)
        start = len(tape.text) if hit is None else hit[0]
        if start > limit:
            return None
        if hit is not None and hit[2]:
            if name != "key" and _STRUCTURE.search(tape.text, tape.at, start):
                return None
            return _QUOTED.sub(r"\2", tape.take(start).strip(BLANK))
        if tape.ended:
            return None
        yield


def _newline(tape: Tape) -> Done:
    """Whether the white space that follows holds a line end."""
    at = tape.at
    while True:
        char = tape.text[at] if at < len(tape.text) else ""
        if char in ("\n", "\r"):
            return True
        if char:
            if char not in BLANK or at - tape.at > _LONGEST_NAME:
                return False
            at += 1
            continue
        if tape.ended:
            return False
        before = tape.at
        yield
        at += tape.at - before


@lru_cache(maxsize=1024)
def _follow(behind: tuple[Part, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    """The literals that may stand behind a hole."""
    found: list[str] = []
    for part in behind:
        if isinstance(part, Literal):
            if part.core and not part.may_miss:
                return (*found, part.core)
            if part.core:
                found.append(part.core)
            elif "\n" in part.text:
                found.append("\n")
        elif isinstance(part, Optional):
            found += cores(part.parts)
        else:
            return tuple(found)
    return (*found, *after)


def _tag(tape: Tape, end: str) -> Generator[None, None, str | None]:
    """The inside of a tag, up to ``end`` outside double quotes; None where another tag begins in front of that."""
    wanted = markers(end, "<")
    offset = 0
    while True:
        found = wanted.search(tape.text, tape.at + offset, tape.ended)
        if found is None or not found[2]:
            if tape.ended or len(tape.text) - tape.at > _LONGEST_TAG:
                return None
            yield
        elif tape.text.count('"', tape.at, found[0]) % 2:
            offset = found[0] + 1 - tape.at
        elif found[2] != end:
            return None
        else:
            inside = tape.take(found[0])
            tape.take(tape.at + len(end))
            return inside


def attributes(inside: str, part: Attributes, holes: dict[str, str], entities: bool) -> bool:
    """Read the inside of a tag into ``holes``; whether the first attribute is there, perhaps without its name."""
    given = {name: a or b or c for name, a, b, c in _ATTRIBUTE.findall(inside)}
    for index, (name, value) in enumerate(part.pairs):
        hole = value[1:-1] if value[:1] == "{" else None
        if name in given and hole:
            text = given[name]
            holes[hole] = text.replace("&quot;", '"').replace("&amp;", "&") if entities else text
        elif hole and index == 0:
            alone = _ALONE.fullmatch(inside)
            if alone is None:
                return False
            holes[hole] = alone[1]
            holes[NEARLY] = inside
    return True


def unslashed(closer: str) -> str:
    """The opener that a model writes for this closer when it forgets the slash."""
    return closer.replace("</", "<", 1).replace("<|close|>", "<|open|>", 1)


def plain(text: str) -> str:
    """Markers as they are written, without the sign for an optional suffix."""
    return text.replace("*>", ">")


def fill_in(template: Sequence[Part], holes: Mapping[str, str], entities: bool = False) -> str:
    """The text of a template. An optional part that has holes is written only if all of them are given."""
    text = ""
    for part in template:
        if isinstance(part, Literal):
            text += plain(part.text)
        elif isinstance(part, Hole):
            text += holes[part.name]
        elif isinstance(part, Attributes):
            for name, value in part.pairs:
                value = holes[value[1:-1]] if value[:1] == "{" else value
                if entities:
                    value = value.replace("&", "&amp;").replace('"', "&quot;")
                text += f' {name}="{value}"'
            text += part.end
        elif all(inner.name in holes for inner in part.parts if isinstance(inner, Hole)):
            text += fill_in(part.parts, holes, entities)
    return text
