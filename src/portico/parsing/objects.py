"""Calls that are a JSON object: name and arguments among its members, or the name its only key.

Where the name is declared, the arguments may stand under another name than the family's, or beside the call's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from portico import grammar as g
from portico.events import ToolCall
from portico.parsing.arguments import Json, arguments_follow, arguments_object, read_json, rest_of_arguments
from portico.parsing.ending import Ends
from portico.parsing.json_text import Done, json_value, quoted
from portico.parsing.keywords import Keyword
from portico.parsing.literals import literal
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.strings import Dialect
from portico.parsing.tape import Look, Markers, comes, markers, peek, space
from portico.parsing.whole import WRAPPERS

if TYPE_CHECKING:
    from portico.parsing.calls import Calls

__all__ = ["JsonObject", "SingleKey"]

_ABOUT = frozenset(("type", "id", "call_id", "tool_call_id", "index"))  # members that are about a call, no arguments
_WORD = re.compile(r"""[^"'\\\n]*""")
_LONGEST_KEY = 256
_ABOVE = 4  # members that stand in front of the arguments
_DEPTH = 16  # objects named "function" inside each other


@dataclass(frozen=True)
class JsonObject:
    """One JSON object that holds name and arguments, in any order of its keys.

    The first of ``name`` and ``arguments`` is written. ``id``: the key of the call's id; with ``late_id`` it may stand
    behind the arguments, which then wait for it. ``python``: the object is a Python literal.
    """

    name: tuple[str, ...] = ("name",)
    arguments: tuple[str, ...] = ("arguments", "parameters")
    id: str = "id"
    id_first: bool = False  # the id is written in front of the name
    late_id: bool = False
    python: Dialect | None = None

    openers: ClassVar[tuple[str, ...]] = ("{",)
    closers: ClassVar[tuple[str, ...]] = ()
    heads: ClassVar[tuple[Markers, ...]] = ()

    @property
    def firsts(self) -> tuple[str, ...]:
        quote: Callable[[str], str] = repr if self.python else quoted
        written = self.id if self.id_first else self.name[0]
        return tuple(dict.fromkeys(f"{{{key}" for key in (quoted(self.name[0]), quote(written))))

    def read(self, m: Machine, calls: Calls) -> Done:
        tape, ends = m.tape, calls.ends_of(self)
        if not (yield from comes(tape, markers("{"))):
            return False
        name: str | None = None
        id: str | None = None
        early: str | None = None  # arguments that came before the name or, perhaps, the id
        others: dict[str, str] = {}  # members that nobody knows
        nested = 0
        while nested < _DEPTH and (yield from comes(tape, markers("{"))):
            m.recovered("a marker twice")
            nested += 1
        while True:
            if (yield from comes(tape, markers("}"))):
                if not nested:
                    break
                nested -= 1
                yield from comes(tape, markers(","))
                continue
            key = yield from self._text(m, ends)
            if key is None or not (yield from comes(tape, markers(":"))):
                if not (yield from peek(tape)):
                    return tape.kept is None  # the text ended
                break
            char = yield from space(tape)
            if key == "function" and char == "{" and nested < _DEPTH:
                tape.take(tape.at + 1)
                nested += 1
                continue
            if key in self.name or (key == "function" and name is None):
                word = yield from self._text(m, ends)
                if word is None or not calls.believes(m, m.named(word)):
                    return tape.kept is None
                name = m.named(word)
            elif tape.kept is not None and early is None and self._holds_arguments(key, name, m, char):
                if key not in self.arguments:
                    m.recovered("arguments under another name")
                if name is not None and not self.late_id and char == "{":
                    m.call(name, id)
                    yield from self._live(m, ends)
                    if m.open_call:
                        return True
                    early = ""
                else:
                    early, whole = yield from self._object(m, ends, name)
                    if early is None:
                        return False
                    if not whole and name is not None:  # the text ended inside them
                        m.call(name, id)
                        m.arguments(early)
                        return True
            elif key == self.id and char in ('"', "'"):
                id = yield from self._text(m, ends)
            elif tape.kept is not None and name is None and char == "{" and key in m.tools and not others:
                m.recovered("the name as the only key")
                m.call(key)
                yield from self._live(m, ends)
                if m.open_call:
                    return True
            else:
                others[key], whole = yield from self._value(m, ends)
                if not whole:
                    if not (yield from peek(tape)):
                        return tape.kept is None
                    break
                if tape.kept is None and key not in _ABOUT:
                    m.write(f"{quoted(key)}: {others[key]} ")  # behind the arguments: not to be lost
            yield from comes(tape, markers(","))
        if tape.kept is None:
            return True
        if name is None:
            return False
        if early is None:
            early = self._beside(m, name, others, calls.plain)
        if early is None:
            return False
        m.call(name, id)
        m.arguments(early or "{}")
        m.end_call()
        return True

    def starts(self, m: Machine, look: Look, calls: Calls) -> Done:
        named = False
        if not (yield from look.marker(markers("{"))):
            return False
        for _ in range(_ABOVE):
            key = yield from _quoted(look)
            if not key or not (yield from look.marker(markers(":"))):
                return False
            if key in self.name:
                word = yield from _quoted(look)
                named = word in m.tools or word.rpartition(".")[2] in m.tools
                if not named:
                    return False
            elif named and (key in self.arguments or key in WRAPPERS):
                return True
            elif key not in (self.id, *_ABOUT) or not (yield from _quoted(look)):
                return False
            if not (yield from look.marker(markers(","))):
                return False
        return False

    def _holds_arguments(self, key: str, name: str | None, m: Machine, char: str) -> bool:
        """Whether a member of this key is the arguments: by the family's names, or by anyone's, if that is an object
        and no parameter of a declared tool."""
        if key in self.arguments:
            return True
        return key in WRAPPERS and char == "{" and (name is None or name in m.tools)

    def _live(self, m: Machine, ends: Ends) -> Generator[None, None, None]:
        """The arguments of the call just committed; ends it, unless the text ends inside them."""
        reader = literal(m.tape, m.arguments, self.python) if self.python else read_json(m, ends)
        if (yield from reader):
            m.end_call()
        elif (yield from peek(m.tape)):
            yield from rest_of_arguments(m, ends)
            if (yield from peek(m.tape)):
                m.end_call()

    def _object(self, m: Machine, ends: Ends, name: str | None) -> Generator[None, None, tuple[str | None, bool]]:
        """Arguments that wait, and whether they are whole; None if they are none."""
        if (yield from space(m.tape)) == "{":
            return (yield from self._value(m, ends))
        return (yield from arguments_object(m, ends, m.tools.get(name or ""))), True

    def _beside(self, m: Machine, name: str, others: dict[str, str], plain: bool) -> str | None:
        """Arguments that do not stand where they should; {} where there are none, None where it is no call at all."""
        members = {key: value for key, value in others.items() if key not in _ABOUT}
        if not members:
            return "{}" if not plain or name in m.tools else None
        schema = m.tools.get(name)
        if schema is None:
            return None
        objects = [value for value in members.values() if value[:1] == "{"]
        if len(members) == len(objects) == 1 and schema.member(next(iter(members))) is None:
            m.recovered("arguments under another name")
            return objects[0]
        if plain and not any(schema.member(key) is not None for key in members):
            return None
        m.recovered("arguments beside the name")
        return "{" + ", ".join(f"{quoted(key)}: {value}" for key, value in members.items()) + "}"

    def _text(self, m: Machine, ends: Ends) -> Generator[None, None, str | None]:
        """A string: a key, a name or an id."""
        char = yield from space(m.tape)
        if char != '"' and not (self.python and char == "'"):
            return None
        text, whole = yield from self._value(m, ends)
        try:
            return str(json.loads(text)) if whole else None
        except ValueError:
            return None

    def _value(self, m: Machine, ends: Ends) -> Generator[None, None, tuple[str, bool]]:
        """A member's value, as JSON text, and whether it is whole."""
        pieces: list[str] = []
        yield from space(m.tape)
        if self.python:
            done = yield from literal(m.tape, pieces.append, self.python)
        else:
            done = yield from json_value(m.tape, pieces.append, ends)
        return "".join(pieces), done

    def write(self, call: ToolCall, index: int, schema: Schema | None) -> str:
        arguments = _python(json.loads(call.arguments)) if self.python else call.arguments
        quote: Callable[[str], str] = repr if self.python else quoted
        members = [(self.name[0], quote(call.name)), (self.arguments[0], arguments)]
        if self.id_first:
            members.insert(0, (self.id, quoted(call.id or str(index))))
        return "{" + ", ".join(f"{quote(key)}: {value}" for key, value in members) + "}"

    trailing: ClassVar[str] = ""

    def grammar(self, tool: g.Tool, schema: Schema) -> tuple[g.Grammar, ...]:
        quote: Callable[[str], str] = repr if self.python else quoted
        head = f"{quote(self.name[0])}: {quote(tool.name)}, {quote(self.arguments[0])}: "
        if self.python:
            inside = Keyword(self.python, ("{}",), ": ", "'").grammar(tool.arguments, schema)
            return g.Exactly("{" + head), *inside, g.Exactly("}")
        if not self.id_first:
            return g.Exactly("{" + head), tool.arguments, g.Exactly("}")
        number = (g.Exactly(f'{{"{self.id}": "'), g.Pattern("[0-9]+"))
        return (*number, g.Exactly(f'", {head}'), tool.arguments, g.Exactly("}"))


def _python(value: object) -> str:
    return repr(value)


def _quoted(look: Look) -> Generator[None, None, str]:
    """Go past a short string without escapes, and return its text."""
    quote = yield from look.marker(markers('"', "'"))
    text = yield from look.word(_WORD, _LONGEST_KEY)
    return text if quote and (yield from look.marker(markers(quote))) else ""


@dataclass(frozen=True)
class SingleKey:
    """``{"name": {arguments}}``: an object whose only key is the name."""

    openers: ClassVar[tuple[str, ...]] = ("{",)
    firsts: ClassVar[tuple[str, ...]] = ()
    closers: ClassVar[tuple[str, ...]] = ()
    heads: ClassVar[tuple[Markers, ...]] = ()

    def read(self, m: Machine, calls: Calls) -> Done:
        tape, ends = m.tape, calls.ends_of(self)
        keyed = JsonObject()
        look = Look(tape)
        for mark in ("{", '"'):
            if not (yield from look.marker(markers(mark))):
                return False
        key = yield from look.word(_WORD, _LONGEST_KEY)
        if (yield from look.marker(markers('"'))) and (yield from look.marker(markers(":"))):
            single = (yield from look.space()) == "{"
        else:
            return False
        if not single and key in keyed.name:
            return (yield from keyed.read(m, calls))
        name = m.named(key)
        if not single or not calls.believes(m, name):
            return False
        yield from comes(tape, markers("{"))
        yield from comes(tape, markers(f'"{key}"'))
        yield from comes(tape, markers(":"))
        m.call(name)
        yield from arguments_follow(m, Json(), name, ends)
        yield from comes(tape, markers("}"))
        return True

    def starts(self, m: Machine, look: Look, calls: Calls) -> Done:
        for mark in ("{", '"'):
            if not (yield from look.marker(markers(mark))):
                return False
        if not (yield from look.one_of(m.tools)):
            return False
        for mark in ('"', ":"):
            if not (yield from look.marker(markers(mark))):
                return False
        return (yield from look.space()) == "{"

    def write(self, call: ToolCall, index: int, schema: Schema | None) -> str:
        return f"{{{quoted(call.name)}: {call.arguments}}}"

    trailing: ClassVar[str] = ""

    def grammar(self, tool: g.Tool, schema: Schema) -> tuple[g.Grammar, ...]:
        return g.Exactly(f"{{{quoted(tool.name)}: "), tool.arguments, g.Exactly("}")
