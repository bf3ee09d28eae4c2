"""The shapes of one call: a header with the name in front of the arguments, or a JSON object that holds both.

Each reads one call after an opener (committing it to the machine when its header is complete), writes one, and gives
the grammar of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from portico import grammar as g
from portico.events import ToolCall
from portico.parsing.arguments import Codec, read_json
from portico.parsing.json_text import Done, json_value, quoted
from portico.parsing.keywords import Keyword
from portico.parsing.literals import DEPTH, Dialect, literal
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import Markers, comes, markers, peek, space
from portico.parsing.wire import BLANK, cores, fill, fill_in, literals, parts, plain

if TYPE_CHECKING:
    from portico.parsing.calls import Calls

__all__ = ["Headed", "JsonObject", "SingleKey", "arguments_follow"]


def arguments_follow(m: Machine, codec: Codec, name: str, enders: Markers) -> Generator[None, None, None]:
    """Read the arguments of the call just committed and end it, unless the text ended inside them."""
    done = yield from codec.read(m, m.tools.get(name), enders)
    if not done and (yield from peek(m.tape)):
        # not what the codec expects: the rest of the call is surfaced as it is
        yield from _rest(m, enders)
        done = bool((yield from peek(m.tape)))
    if done:
        m.end_call()


def _rest(m: Machine, enders: Markers) -> Generator[None, None, None]:
    """Pass on what is left of undecodable arguments, up to what ends the call."""
    while True:
        found = enders.search(m.tape.text, m.tape.at, m.tape.ended)
        end = len(m.tape.text) if found is None else found[0]
        if end > m.tape.at:
            m.arguments(m.tape.take(end))
        if (found and found[2]) or m.tape.ended:
            return
        yield


@dataclass(frozen=True)
class Headed:
    """The name (and perhaps an id) in a header, the arguments behind it.

    ``header`` and ``close`` are wire templates; ``named`` makes the name of the word that the header has
    for it; where that word is also the call's id (``{id}``), ``ident`` writes it.
    """

    header: str
    arguments: Codec
    close: str = ""
    named: Callable[[str], str] | None = None
    ident: Callable[[int, str], str] | None = None
    entities: bool = False

    @cached_property
    def openers(self) -> tuple[str, ...]:
        return cores(parts(self.header))[:1]

    @cached_property
    def closers(self) -> tuple[str, ...]:
        return literals(self.close)

    def read(self, m: Machine, calls: Calls) -> Done:
        holes: dict[str, str] = {}
        follow = (*self.arguments.openers, *calls.enders.spellings)
        if not (yield from fill(m.tape, parts(self.header), holes, follow, self.entities)):
            return False
        name = holes.get("name") or holes.get("id") or ""
        if self.named:
            name = self.named(name)
        if not calls.believes(m, name) or not (yield from self.arguments.begins(m.tape, calls.enders)):
            return False
        m.call(name, holes.get("id"))
        yield from arguments_follow(m, self.arguments, name, calls.enders)
        if self.close:
            yield from comes(m.tape, markers(*self.closers))
        return True

    def write(self, call: ToolCall, index: int, schema: Schema | None) -> str:
        holes = {"name": call.name, "index": str(index + 1)}
        if self.ident:
            holes["id"] = call.id or self.ident(index, call.name)
        elif call.id:
            holes["id"] = call.id
        header = fill_in(parts(self.header), holes, self.entities)
        return f"{header}{self.arguments.write(call.arguments, schema)}{plain(self.close)}"

    @property
    def trailing(self) -> str:
        return self.close[len(self.close.rstrip(BLANK)) :]

    def grammar(self, tool: g.Tool, schema: Schema) -> tuple[g.Grammar, ...]:
        count = "\1"  # stands for the call's number, which is the model's to say
        holes = {"name": tool.name, "index": count}
        if self.ident:
            holes["id"] = self.ident(0, tool.name).removesuffix("0") + count
        header = fill_in(parts(self.header), holes, self.entities).split(count)
        numbered: list[g.Grammar] = [g.Exactly(header[0])]
        for piece in header[1:]:
            numbered += [g.Pattern("[0-9]+"), g.Exactly(piece)]
        return (*numbered, *self.arguments.grammar(tool.arguments, schema), g.Exactly(self.close.rstrip(BLANK)))


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

    def read(self, m: Machine, calls: Calls) -> Done:
        tape = m.tape
        if not (yield from comes(tape, markers("{"))):
            return False
        name: str | None = None
        id: str | None = None
        early: list[str] | None = None  # arguments that came before the name or, perhaps, the id
        nested = 0
        while True:
            if (yield from comes(tape, markers("}"))):
                if not nested:
                    break
                nested -= 1
                yield from comes(tape, markers(","))
                continue
            key = yield from self._text(m, calls.enders)
            if key is None or not (yield from comes(tape, markers(":"))):
                return tape.kept is None
            char = yield from space(tape)
            if key == "function" and char == "{" and nested < DEPTH:
                tape.take(tape.at + 1)
                nested += 1
                continue
            if key in self.name or (key == "function" and name is None):
                name = yield from self._text(m, calls.enders)
                if name is None or not calls.believes(m, name):
                    return False
            elif key in self.arguments and early is None:
                early = []
                if name is not None and not self.late_id:
                    m.call(name, id)
                    yield from self._follow(m, calls.enders)
                    if m.open_call:
                        return True
                elif not (yield from self._arguments(m, early.append, calls.enders)):
                    if name is None:
                        return False
                    m.call(name, id)
                    m.arguments("".join(early))
                    yield from self._broken(m, calls.enders)
                    return True
            elif key == self.id and char in ('"', "'"):
                id = yield from self._text(m, calls.enders)
            elif (calls.plain and key not in ("type", "id")) or not (
                yield from self._arguments(m, _nothing, calls.enders)
            ):
                return tape.kept is None
            yield from comes(tape, markers(","))
        if tape.kept is not None and name is not None and (early is not None or not calls.plain or name in m.tools):
            m.call(name, id)
            m.arguments("".join(early or ()))
            m.end_call()
        return tape.kept is None

    def _follow(self, m: Machine, enders: Markers) -> Generator[None, None, None]:
        if (yield from self._arguments(m, m.arguments, enders)):
            m.end_call()
        else:
            yield from self._broken(m, enders)

    def _broken(self, m: Machine, enders: Markers) -> Generator[None, None, None]:
        """The arguments broke off: by the end of the text, or by something that is no JSON."""
        if (yield from peek(m.tape)):
            yield from _rest(m, enders)
            if (yield from peek(m.tape)):
                m.end_call()

    def _text(self, m: Machine, enders: Markers) -> Generator[None, None, str | None]:
        """A string: a key, a name or an id."""
        char = yield from space(m.tape)
        if char != '"' and not (self.python and char == "'"):
            return None
        pieces: list[str] = []
        reader = (
            literal(m.tape, pieces.append, self.python) if self.python else json_value(m.tape, pieces.append, enders)
        )
        if not (yield from reader):
            return None
        try:
            return str(json.loads("".join(pieces)))
        except ValueError:
            return None

    def _arguments(self, m: Machine, emit: Callable[[str], None], enders: Markers) -> Done:
        if self.python:
            yield from space(m.tape)
            return (yield from literal(m.tape, emit, self.python))
        return (yield from read_json(m, emit, enders))

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


def _nothing(text: str) -> None:
    """Text that carries no meaning."""


def _python(value: object) -> str:
    return repr(value)


@dataclass(frozen=True)
class SingleKey:
    """``{"name": {arguments}}``: an object whose only key is the name."""

    openers: ClassVar[tuple[str, ...]] = ("{",)
    closers: ClassVar[tuple[str, ...]] = ()

    def read(self, m: Machine, calls: Calls) -> Done:
        tape = m.tape
        if not (yield from comes(tape, markers("{"))) or (yield from space(tape)) != '"':
            return False
        pieces: list[str] = []
        if not (yield from json_value(tape, pieces.append, calls.enders)) or not (yield from comes(tape, markers(":"))):
            return False
        if (yield from space(tape)) != "{":
            return False
        try:
            name = str(json.loads("".join(pieces)))
        except ValueError:
            return False
        if not calls.believes(m, name):
            return False
        m.call(name)
        if not (yield from json_value(tape, m.arguments, calls.enders)):
            if not (yield from peek(tape)):
                return True
            yield from _rest(m, calls.enders)
        m.end_call()
        yield from comes(tape, markers("}"))
        return True

    def write(self, call: ToolCall, index: int, schema: Schema | None) -> str:
        return f"{{{quoted(call.name)}: {call.arguments}}}"

    trailing: ClassVar[str] = ""

    def grammar(self, tool: g.Tool, schema: Schema) -> tuple[g.Grammar, ...]:
        return g.Exactly(f"{{{quoted(tool.name)}: "), tool.arguments, g.Exactly("}")
