"""What an answer may look like: the words in which parsing describes a family's calls and constraints compile them.

A ``Grammar`` is a small tree of values. It says nothing of engines: ``constraints`` makes llguidance's Lark and vLLM's
structural tag from the same tree. Text means characters as the parsers see them, special tokens by their names
(``<tool_call>``); which of them are single tokens is the vocabulary's business, not the tree's.

    Chain((Exactly('{"name": "add", "arguments": '), Json(schema), Exactly("}")))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

__all__ = [
    "Anything",
    "Calls",
    "Chain",
    "Exactly",
    "Grammar",
    "Json",
    "OneOf",
    "Pattern",
    "Repeated",
    "Tool",
    "Until",
]


class Exactly(Struct, frozen=True):
    """This text."""

    text: str


class Json(Struct, frozen=True):
    """A JSON text that the JSON Schema ``schema`` accepts.

    ``param`` is the request field that the schema came from, for error messages. Where ``strict`` is off, keywords that
    no grammar can hold are left out instead of refused.
    """

    schema: Mapping[str, Any] | bool
    param: str = ""
    strict: bool = True


class Pattern(Struct, frozen=True):
    """A text that the regular expression matches as a whole. Rust's syntax: no look-around, no back-references."""

    regex: str
    param: str = ""


class Until(Struct, frozen=True):
    """Any text up to the first of ``stops``, and that one."""

    stops: tuple[str, ...]


class Anything(Struct, frozen=True):
    """Any text, to the end of the answer."""


class Chain(Struct, frozen=True):
    """One part after the other."""

    parts: tuple[Grammar, ...]


class OneOf(Struct, frozen=True):
    """One of the options; there is at least one."""

    options: tuple[Grammar, ...]


class Repeated(Struct, frozen=True):
    """``part`` at least ``low`` and at most ``high`` times (None: any number), with ``separator`` between them."""

    part: Grammar
    low: int = 0
    high: int | None = None
    separator: str = ""


Grammar: TypeAlias = Exactly | Json | Pattern | Until | Anything | Chain | OneOf | Repeated


class Tool(Struct, frozen=True):
    """A tool that may be called, and what its arguments must be."""

    name: str
    arguments: Json


class Calls(Struct, frozen=True):
    """How a family writes the calls that a request allows.

    ``calls`` is all of them, with section and separators, from the first character of the first one. ``openers`` are
    the texts with which they begin inside prose, longer than one character; empty where nothing marks a call.
    """

    calls: Grammar
    openers: tuple[str, ...] = ()
