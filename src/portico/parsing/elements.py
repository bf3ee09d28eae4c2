"""Arguments as nested elements under a mark (MiniMax-M3).

    ]<]minimax[>[<items>]<]minimax[>[<item>tea]<]minimax[>[</item>]<]minimax[>[</items>

Children make an object, or an array where the schema says so; names that repeat make an array; text among children
goes to ``$text``; leaves are typed by the schema at their place. A string on the top level streams, everything else
is given when its element closes.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from portico import grammar as g
from portico.parsing.arguments import DEPTH_OF_GRAMMAR, text_of
from portico.parsing.json_text import Done, escaped, quoted
from portico.parsing.literals import DEPTH
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import Markers, Tape, comes, markers, until
from portico.parsing.values import as_json
from portico.parsing.wire import BLANK, fill, parts

__all__ = ["Elements"]


@dataclass
class _Node:
    key: str
    schema: Schema | None
    children: list[tuple[str, str]]
    text: str = ""

    def json(self) -> str:
        types = self.schema.types if self.schema is not None else frozenset()
        if not self.children:
            if types and types <= {"object", "array"} and not self.text.strip(BLANK):
                return "[]" if "array" in types else "{}"
            return as_json(self.text, self.schema)
        values = [value for _, value in self.children]
        if "array" in types or (not types and {key for key, _ in self.children} == {"item"}):
            return f"[{', '.join(values)}]"
        members: dict[str, list[str]] = {}
        for key, value in self.children:
            members.setdefault(key, []).append(value)
        if loose := self.text.strip(BLANK):
            members.setdefault("$text", []).append(quoted(loose))
        inside = (f"{quoted(k)}: {v[0] if len(v) == 1 else '[' + ', '.join(v) + ']'}" for k, v in members.items())
        return f"{{{', '.join(inside)}}}"


@dataclass(frozen=True)
class Elements:
    """``mark`` stands in front of every tag."""

    mark: str

    @cached_property
    def openers(self) -> tuple[str, ...]:
        return (f"{self.mark}<",)

    def begins(self, tape: Tape, enders: Markers) -> Done:
        return bool((yield from comes(tape, markers(*self.openers), take=False))) or tape.ended

    def read(self, m: Machine, schema: Schema | None, enders: Markers) -> Done:
        tape = m.tape
        separator = "{"
        while True:
            if (yield from comes(tape, enders, take=False)) or not (yield from comes(tape, markers(*self.openers))):
                if separator != "{":
                    m.arguments("}")
                return separator != "{" or m.stopped or tape.at < len(tape.text)
            holes: dict[str, str] = {}
            tape.keep(self.openers[0])
            if not (yield from fill(tape, parts("{key}>"), holes)):
                m.spill(tape.release())
                continue
            tape.commit()
            key = holes["key"]
            member = schema.member(key) if schema is not None else None
            m.arguments(f"{separator}{quoted(key)}: ")
            separator = ", "
            if member is not None and member.is_text:
                m.arguments('"')

                def pass_on(text: str) -> None:
                    m.arguments(escaped(text))

                if not (yield from until(tape, markers(f"{self.mark}</{key}>"), pass_on)):
                    return False
                m.arguments('"')
            else:
                value = yield from self._element(tape, _Node(key, member, []))
                if value is None:
                    return False
                m.arguments(value)

    def _element(self, tape: Tape, node: _Node) -> Generator[None, None, str | None]:
        """The JSON text of an element whose opening tag was read; None if the text ended inside it."""
        stack = [node]
        while True:
            here = stack[-1]
            pieces: list[str] = []
            found = yield from until(tape, markers(f"{self.mark}<", f"{self.mark}</{here.key}>"), pieces.append)
            here.text += "".join(pieces)
            if not found:
                return None
            if found != f"{self.mark}<":
                stack.pop()
                if not stack:
                    return here.json()
                stack[-1].children.append((here.key, here.json()))
                continue
            holes: dict[str, str] = {}
            tape.keep(found)
            if not (yield from fill(tape, parts("{key}>"), holes)) or holes["key"][:1] == "/" or len(stack) > DEPTH:
                here.text += tape.release()
                continue
            tape.commit()
            types = here.schema.types if here.schema is not None else frozenset()
            inner = None
            if here.schema is not None:
                inner = here.schema.items if "array" in types else here.schema.member(holes["key"])
            stack.append(_Node(holes["key"], inner, []))

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        return self._members(schema, arguments, DEPTH_OF_GRAMMAR)

    def _members(self, schema: Schema, arguments: g.Json, depth: int) -> tuple[g.Grammar, ...]:
        found: list[g.Grammar] = []
        for key, member, required in schema.members():
            part = self._tagged(key, member, arguments, depth)
            found.append(part if required else g.Repeated(part, 0, 1))
        return tuple(found)

    def _tagged(self, key: str, schema: Schema, arguments: g.Json, depth: int) -> g.Grammar:
        opened, closed = f"{self.mark}<{key}>", f"{self.mark}</{key}>"
        if depth and schema.types == {"array"}:
            item = self._tagged("item", schema.items, arguments, depth - 1)
            return g.Chain((g.Exactly(opened), g.Repeated(item, *schema.sizes), g.Exactly(closed)))
        if depth and schema.types == {"object"}:
            inside = self._members(schema, arguments, depth - 1)
            return g.Chain((g.Exactly(opened), *inside, g.Exactly(closed)))
        return g.Chain((g.Exactly(opened), *text_of(schema, arguments, closed)))

    def write(self, arguments: str, schema: Schema | None) -> str:
        return "".join(self._written(key, value) for key, value in json.loads(arguments).items())

    def _written(self, key: str, value: Any) -> str:
        if isinstance(value, dict):
            inside = "".join(self._written(k, v) for k, v in value.items())
        elif isinstance(value, list):
            inside = "".join(self._written("item", v) for v in value)
        else:
            inside = value if isinstance(value, str) else json.dumps(value)
        return f"{self.mark}<{key}>{inside}{self.mark}</{key}>"
