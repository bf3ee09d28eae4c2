"""Argument codecs: how the arguments of one call are coded on the wire, and their JSON text. JSON itself is one.

Each codec reads (incrementally, giving the machine JSON text as soon as it is decided), writes and describes itself as
a grammar. ``read`` starts behind the call's header and is told which markers may end the arguments.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from portico import grammar as g
from portico.parsing.json_text import Done, json_value
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import Markers, Tape, comes, markers, space

__all__ = ["DEPTH_OF_GRAMMAR", "Codec", "Json", "Unwritable", "read_json", "text_of"]

DEPTH_OF_GRAMMAR = 8  # objects and arrays inside each other, where the syntax is not JSON


class Unwritable(ValueError):
    """A call that the format has no way to write."""


class Codec(Protocol):
    @property
    def openers(self) -> tuple[str, ...]:
        """Literals that the arguments may begin with; they end a name written in front of them."""
        ...

    def begins(self, tape: Tape, enders: Markers) -> Done:
        """Whether what comes next can be such arguments; looks without consuming."""
        ...

    def read(self, m: Machine, schema: Schema | None, enders: Markers) -> Done:
        """Give the machine the arguments. True if they are complete."""
        ...

    def write(self, arguments: str, schema: Schema | None) -> str:
        """The wire text of arguments given as JSON text."""
        ...

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        """The wire text of any arguments that the schema accepts."""
        ...


def read_json(m: Machine, emit: Any, enders: Markers) -> Done:
    """JSON arguments: an object passed through as it is; null is {}, and an object inside a string is unwrapped."""
    char = yield from space(m.tape)
    if char == '"':
        pieces: list[str] = []
        done = yield from json_value(m.tape, pieces.append, enders)
        emit(_unwrapped("".join(pieces)))
        return done
    if char == "n":
        pieces = []
        done = yield from json_value(m.tape, pieces.append, enders)
        word = "".join(pieces)
        emit("{}" if word == "null" else word)
        return done
    if (yield from comes(m.tape, enders, take=False)):
        return True  # no arguments at all
    return (yield from json_value(m.tape, emit, enders))


def _unwrapped(text: str) -> str:
    try:
        inside = json.loads(text)
        if isinstance(json.loads(inside), dict):
            return str(inside)
    except (ValueError, RecursionError):
        pass
    return text


@dataclass(frozen=True)
class Json:
    """The arguments are a JSON object."""

    openers: tuple[str, ...] = ("{",)

    def begins(self, tape: Tape, enders: Markers) -> Done:
        return bool((yield from comes(tape, markers("{", '"', "null", *enders.spellings), take=False)))

    def read(self, m: Machine, schema: Schema | None, enders: Markers) -> Done:
        return (yield from read_json(m, m.arguments, enders))

    def write(self, arguments: str, schema: Schema | None) -> str:
        return arguments

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        return (arguments,)


def text_of(member: Schema, arguments: g.Json, stop: str) -> tuple[g.Grammar, ...]:
    """A value as bare text, and the ``stop`` behind it."""
    choices = member.node.get("enum") or ([member.node["const"]] if "const" in member.node else [])
    if choices and all(isinstance(choice, str) for choice in choices):
        return g.OneOf(tuple(map(g.Exactly, choices))), g.Exactly(stop)
    if member.types and "string" not in member.types:
        return member.as_json(arguments), g.Exactly(stop)
    keywords = ("pattern", "minLength", "maxLength", "x-portico-lark")  # the last is a custom tool's
    text = {key: member.node[key] for key in keywords if member.node.get(key) is not None}
    if not text:
        return (g.Until((stop,)),)
    return (g.Text({"type": "string", **text}, stop, arguments.param, arguments.strict),)
