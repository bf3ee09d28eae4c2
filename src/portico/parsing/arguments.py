"""Argument codecs: how the arguments of one call are coded on the wire, and their JSON text. JSON itself is one.

Each codec reads (incrementally, giving the machine JSON text as soon as it is decided), writes and describes itself as
a grammar. ``read`` starts behind the call's header and is told what may end the arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from portico import grammar as g
from portico.parsing.ending import Ends, Verdict, text_value
from portico.parsing.json_text import Done, escaped, json_value, quoted
from portico.parsing.literals import JAVASCRIPT, PYTHON, literal, transcribe
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import Look, Tape, comes, markers, peek, space
from portico.parsing.values import as_json
from portico.parsing.whole import object_in

__all__ = [
    "DEPTH_OF_GRAMMAR",
    "Codec",
    "Json",
    "TextUnder",
    "Unwritable",
    "arguments_follow",
    "arguments_object",
    "object_follows",
    "read_json",
    "rest_of_arguments",
    "text_of",
]

DEPTH_OF_GRAMMAR = 8  # objects and arrays inside each other, where the syntax is not JSON
_WORD = re.compile(r"[A-Za-z_$][\w$]*")
_LONGEST_KEY = 128
_VALUE = frozenset("\"'`{[-0123456789tfnTFN")
_ELEMENT = re.compile(r"\s*<([\w.\-]+)>(.*?)</\1>\s*", re.DOTALL)


class Unwritable(ValueError):
    """A call that the format has no way to write."""


class Codec(Protocol):
    @property
    def openers(self) -> tuple[str, ...]:
        """Literals that the arguments may begin with; they end a name written in front of them."""
        ...

    def begins(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        """Whether what comes next can be such arguments; looks without consuming."""
        ...

    def read(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        """Give the machine the arguments. True if they are complete."""
        ...

    def write(self, arguments: str, schema: Schema | None) -> str:
        """The wire text of arguments given as JSON text."""
        ...

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        """The wire text of any arguments that the schema accepts."""
        ...


def read_json(m: Machine, ends: Ends) -> Done:
    """Give the machine an object, which begins with its brace: JSON, passed through as it is, or a literal of Python or
    JavaScript."""
    start = yield from comes(m.tape, markers('{"', "{'", "{"), take=False)
    if start == "{'":
        m.recovered("Python in place of JSON")
        return (yield from literal(m.tape, m.arguments, PYTHON))
    yield from space(m.tape)
    if start == "{" and (yield from _key_without_quotes(m.tape)):
        m.recovered("keys without quotes")
        return (yield from literal(m.tape, m.arguments, JAVASCRIPT, typed=as_json))
    return (yield from json_value(m.tape, m.arguments, ends))


def _key_without_quotes(tape: Tape) -> Done:
    """Whether a brace comes, a bare word, a colon and what a value of JSON may begin with."""
    look = Look(tape)
    yield from look.marker(markers("{"))
    yield from look.space()
    if not (yield from look.word(_WORD, _LONGEST_KEY)) or not (yield from look.marker(markers(":"))):
        return False
    return (yield from look.space()) in _VALUE


def object_follows(tape: Tape) -> Done:
    """Whether what comes is a brace and then no other syntax than ``read_json`` knows."""
    if (yield from comes(tape, markers('{"', "{'", "{}"), take=False)):
        return True
    look = Look(tape)
    if not (yield from look.marker(markers("{"))):
        return False
    return (yield from look.space()) in ("", '"', "'", "{", "}") or (yield from _key_without_quotes(tape))


def arguments_object(m: Machine, ends: Ends, schema: Schema | None) -> Generator[None, None, str | None]:
    """The object that arguments amount to which are not written as one; None if they do not amount to any.

    null and nothing at all are {}; a string may hold an object, or one element per member; a list may hold one object.
    """
    tape = m.tape
    if (yield from comes(tape, ends.marks, take=False)):
        return "{}"
    pieces: list[str] = []
    yield from space(tape)
    yield from json_value(tape, pieces.append, ends)
    return _as_object("".join(pieces), schema)


def _as_object(text: str, schema: Schema | None) -> str | None:
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if value is None or value == "" or value == []:
        return "{}"
    if isinstance(value, list):
        return json.dumps(value[0], ensure_ascii=False) if len(value) == 1 and isinstance(value[0], dict) else None
    if not isinstance(value, str):
        return text if isinstance(value, dict) else None
    inside = object_in(text)
    if inside is None and value.strip()[:1] == "{":
        inside = transcribe(value.strip(), PYTHON)
    if inside is not None:
        return inside
    members: list[str] = []
    at = 0
    while at < len(value) and (found := _ELEMENT.match(value, at)):
        member = schema.member(found[1]) if schema is not None else None
        if member is None:
            return None
        members.append(f"{quoted(found[1])}: {as_json(found[2], member)}")
        at = found.end()
    return f"{{{', '.join(members)}}}" if members and at == len(value) else None


@dataclass(frozen=True)
class Json:
    """The arguments are a JSON object."""

    openers: tuple[str, ...] = ("{",)

    def begins(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        return bool((yield from comes(m.tape, markers("{", '"', "null", "[", *ends.marks.spellings), take=False)))

    def read(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        return (yield from read_json(m, ends))

    def write(self, arguments: str, schema: Schema | None) -> str:
        return arguments

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        return (arguments,)


@dataclass(frozen=True)
class TextUnder:
    """The arguments are a JSON object or, where the tool has no other parameter, the bare text of the one named."""

    key: str

    openers: ClassVar[tuple[str, ...]] = ("{", " ", "\n")

    def begins(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        return bool((yield from space(m.tape))) or m.tape.ended

    def read(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        if (yield from space(m.tape)) == "{":
            return (yield from read_json(m, ends))
        if (yield from comes(m.tape, ends.marks, take=False)):
            return True
        m.arguments(f'{{{quoted(self.key)}: "')

        def judge(found: str) -> Generator[None, None, Verdict]:
            return Verdict.STRUCTURE if (yield from ends.surely(m.tape, m.names, m.final)) else Verdict.PERHAPS

        verdict = yield from text_value(m.tape, lambda text: m.arguments(escaped(text)), ends.marks, judge)
        if verdict is Verdict.CUT:
            return False
        m.arguments('"}')
        return True

    def write(self, arguments: str, schema: Schema | None) -> str:
        value = json.loads(arguments)
        alone = list(value) == [self.key] and isinstance(value[self.key], str)
        return str(value[self.key]) if alone and value[self.key][:1] not in ("{", "") else arguments

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        return (arguments,)


def arguments_follow(m: Machine, codec: Codec, name: str, ends: Ends) -> Generator[None, None, None]:
    """Read the arguments of the call just committed and end it, unless the text ended inside them."""
    done = yield from codec.read(m, m.tools.get(name), ends)
    if not done and (yield from peek(m.tape)):
        yield from rest_of_arguments(m, ends, *codec.openers)  # not what the codec expects
        done = bool((yield from peek(m.tape)))
    if done:
        m.end_call()


def rest_of_arguments(m: Machine, ends: Ends, *more: str) -> Generator[None, None, None]:
    """What is left of arguments that broke off, up to what ends the call, is text behind it. Where the answer was cut
    in the middle of such a mark, or of one of ``more``, it is none."""
    tape = m.tape
    marks = markers(*ends.marks.spellings, *m.final.spellings)
    while True:
        if tape.ended and not m.stopped:
            marks = markers(*marks.spellings, *more)
        found = marks.search(tape.text, tape.at, tape.ended and m.stopped)
        end = len(tape.text) if found is None else found[0]
        if end > tape.at:
            m.spill(tape.take(end))
        if found and found[2]:
            return
        if tape.ended:
            tape.at = len(tape.text)
            return
        yield


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
