"""The tree of a regular expression: sets of characters and anchors in rows, options and repetitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

# What stands inside a JSON string in another spelling than its own, as ``json.dumps`` spells it.
JSON = {chr(code): f"\\u{code:04x}" for code in range(0x20)}
JSON |= {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


class UnheldError(Exception):
    """No grammar holds this expression; the words name what it has."""


@dataclass(frozen=True)
class Chars:
    """One character out of a set. ``set_`` is how Rust writes it, in brackets where it is not a single one;
    ``escapes`` are those of the set that a JSON string spells otherwise; ``letters``: it has some; ``folded``: in
    either case."""

    set_: str
    escapes: frozenset[str] = frozenset()
    letters: bool = True
    folded: bool = False


@dataclass(frozen=True)
class Edge:
    """The beginning (``^``) or the end (``$``) of the string."""

    mark: str


@dataclass(frozen=True)
class Row:
    """One part after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Options:
    options: tuple[Node, ...]


@dataclass(frozen=True)
class Times:
    part: Node
    low: int
    high: int | None


Node: TypeAlias = "Chars | Edge | Row | Options | Times"

ANYTHING = Times(Chars(r"[\s\S]", frozenset(JSON)), 0, None)


def literal(text: str) -> Node:
    """The expression for this text."""
    return Row(tuple(map(character_of, text)))


def character_of(character: str) -> Chars:
    """The set of this one character."""
    escapes = frozenset(character) & JSON.keys()
    return Chars(quoted(character), frozenset(escapes), character.isalpha())


def quoted(character: str) -> str:
    """The character as Rust writes it, inside brackets and outside."""
    if character.isascii() and character.isalnum():
        return character
    return f"\\x{{{ord(character):x}}}"
