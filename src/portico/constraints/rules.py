"""A grammar of named rules, as clients write them in GBNF, and the Lark text that says the same.

The one thing to decide is what becomes a lexeme. llguidance parses lexemes, not characters; a grammar of
single-character lexemes is slow and soon refused. So every rule that is regular (does not lead back to itself, and
names no special token) becomes a terminal, which is one regular expression to the lexer; if the root is regular, that
is the whole grammar, exactly. Elsewhere a terminal takes as much text as it can, where a grammar of characters would
try every length: ``[a-z]+ "b"`` inside a recursive rule does not match ``ab``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Choice", "Lexeme", "Name", "Node", "Repeat", "Sequence", "Special", "mentions", "to_lark"]


@dataclass(frozen=True)
class Lexeme:
    """A literal or a set of characters, as Lark spells it."""

    lark: str


@dataclass(frozen=True)
class Special:
    """A special token of the vocabulary, ``<name>``."""

    token: str


@dataclass(frozen=True)
class Name:
    name: str


@dataclass(frozen=True)
class Sequence:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    options: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    part: Node
    times: str  # *, +, ?, {2,3}


Node: TypeAlias = "Lexeme | Special | Name | Sequence | Choice | Repeat"


def to_lark(rules: Mapping[str, Node], root: str) -> str:
    """The Lark grammar of ``rules``, all of whose names are defined; ``root`` is the whole text."""
    regular = _regular(rules)
    names = {}
    for index, name in enumerate(rules):
        readable = f"{re.sub('[^a-z0-9]', '_', name.lower())}_{index}"
        names[name] = f"T_{readable.upper()}" if name in regular else f"r_{readable}"
    lines = [f"start: {names[root]}"]
    lines += [f"{names[name]}: {_written(body, names)}" for name, body in rules.items()]
    return "\n".join(lines)


def mentions(node: Node) -> set[str | None]:
    """The rules that ``node`` names; None stands for a special token."""
    if isinstance(node, Name):
        return {node.name}
    if isinstance(node, Special):
        return {None}
    return set().union(*map(mentions, _inside(node)))


def _inside(node: Node) -> tuple[Node, ...]:
    match node:
        case Sequence(parts):
            return parts
        case Choice(options):
            return options
        case Repeat(part):
            return (part,)
    return ()


def _regular(rules: Mapping[str, Node]) -> set[str]:
    """The rules made of nothing but lexemes and regular rules: a least fixed point, so recursion keeps a rule out."""
    named = {name: mentions(body) for name, body in rules.items()}
    regular: set[str] = set()
    while found := {name for name in rules.keys() - regular if named[name] <= regular}:
        regular |= found
    return regular


def _written(node: Node, names: Mapping[str, str]) -> str:
    match node:
        case Lexeme(lark):
            return lark
        case Special(token):
            return token
        case Name(name):
            return names[name]
        case Sequence(parts):
            return " ".join(_written(part, names) for part in parts) or '""'
        case Choice(options):
            return "(" + " | ".join(_written(option, names) for option in options) + ")"
        case Repeat(part, times):
            return f"({_written(part, names)}){times}"
