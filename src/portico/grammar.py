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
    "Frame",
    "Grammar",
    "Json",
    "OneOf",
    "Pattern",
    "Prose",
    "Repeated",
    "Text",
    "Tool",
    "Until",
    "Verbatim",
]


class Exactly(Struct, frozen=True):
    """This text."""

    text: str


class Json(Struct, frozen=True):
    """A JSON text that the JSON Schema ``schema`` accepts.

    ``param`` is the request field that the schema came from, for error messages. Where ``strict`` is off, keywords that
    no grammar can hold are left out instead of refused. ``white_space`` is a regular expression for what may stand
    between the tokens of the JSON; None leaves that to the compiler.
    """

    schema: Mapping[str, Any] | bool
    param: str = ""
    strict: bool = True
    white_space: str | None = None


class Pattern(Struct, frozen=True):
    """A text that the regular expression matches as a whole. Rust's syntax: no look-around, no back-references."""

    regex: str
    param: str = ""


class Until(Struct, frozen=True):
    """Any text up to the first of ``stops``, and that one."""

    stops: tuple[str, ...]


class Text(Struct, frozen=True):
    """The characters of a string that the JSON Schema ``schema`` accepts, bare, and ``stop`` behind it.

    For formats that write strings without quotes. The text ends at the first ``stop``; length and pattern are held.
    """

    schema: Mapping[str, Any]
    stop: str
    param: str = ""
    strict: bool = True


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


class Prose(Struct, frozen=True):
    """Free text in which, wherever an opener comes up, something has to follow.

    ``rest`` pairs each opener with what follows it. ``once``: the answer ends with the first of them.
    """

    rest: tuple[tuple[str, Grammar], ...]
    once: bool = False


class Verbatim(Struct, frozen=True):
    """A whole grammar that a client wrote, in llguidance's Lark, with a rule ``start``."""

    lark: str
    param: str


Grammar: TypeAlias = Exactly | Json | Pattern | Text | Until | Anything | Chain | OneOf | Repeated | Prose | Verbatim


class Tool(Struct, frozen=True):
    """A tool that may be called, and what its arguments must be. ``has_grammar``: its one argument is text of a grammar
    that the client wrote (a custom tool)."""

    name: str
    arguments: Json
    has_grammar: bool = False


class Calls(Struct, frozen=True):
    """How a family writes the calls that a request allows.

    ``calls`` is all of them, with section and separators, from the first character of the first one. ``openers`` are
    the texts with which they begin inside prose, longer than one character; empty where nothing marks a call.
    """

    calls: Grammar
    openers: tuple[str, ...] = ()


class Frame(Struct, frozen=True):
    """What a family writes in front of an answer.

    ``thought`` is what is left of its thinking, with what closes it and the white space behind, given how the prompt
    ends; ``may_skip`` says that the answer may begin without it. ``header`` opens the answer itself (not the calls)
    where the family has such a thing.
    """

    thought: Grammar | None = None
    may_skip: bool = True
    header: Grammar | None = None
