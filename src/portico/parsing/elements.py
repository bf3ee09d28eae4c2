"""Arguments as nested elements under a mark (MiniMax-M3).

    ]<]minimax[>[<items>]<]minimax[>[<item>tea]<]minimax[>[</item>]<]minimax[>[</items>

Children make an object, or an array where the schema says so; names that repeat make an array; text among children
goes to ``$text``; leaves are typed by the schema at their place. A string on the top level streams, everything else
is given when its element closes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from portico import grammar as g
from portico.parsing.arguments import DEPTH_OF_GRAMMAR, text_of
from portico.parsing.ending import Ends, Verdict, text_value
from portico.parsing.json_text import DEPTH, Done, Emit, escaped, quoted
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import Look, comes, markers, until
from portico.parsing.values import as_json
from portico.parsing.wire import BLANK, Part, fill, parts

__all__ = ["Elements"]

_NAME = re.compile(r"[\w.\-:]*")
_LONGEST = 256


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

    @cached_property
    def _tags(self) -> tuple[Part, ...]:
        return parts("{key}>")

    def begins(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        tape = m.tape
        if (yield from comes(tape, markers(*self.openers, *ends.marks.spellings), take=False)):
            return True
        return tape.ended and not tape.text[tape.at :].strip(BLANK)

    def read(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        tape = m.tape
        separator = "{"
        while True:
            while (yield from self._stray(m, ends)):
                m.recovered("a closer with nothing open")
            ended = yield from comes(tape, ends.marks, take=False)
            if ended or not (yield from comes(tape, markers(*self.openers))):
                if separator != "{":
                    m.arguments("}")
                more = yield from Look(tape).space()
                return bool(ended) or (not more and (separator != "{" or m.stopped))
            holes: dict[str, str] = {}
            tape.keep(self.openers[0])
            if not (yield from fill(tape, self._tags, holes)):
                if m.no_part():
                    return False
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

                if not (yield from self._leaf(m, key, pass_on, schema, ends)):
                    return False
                m.arguments('"')
            else:
                value, closed = yield from self._element(m, _Node(key, member, []), ends)
                m.arguments(value)
                if not closed and not m.stopped:
                    return False

    def _stray(self, m: Machine, ends: Ends) -> Done:
        """Consume a closer that closes nothing here; whether one came."""
        if (yield from comes(m.tape, ends.marks, take=False)):
            return False
        look = Look(m.tape)
        if not (yield from look.marker(markers(f"{self.mark}</"))):
            return False
        yield from look.word(_NAME, _LONGEST)
        if (yield from look.char()) != ">":
            return False
        yield from comes(m.tape, markers(f"{self.mark}</"))
        yield from until(m.tape, markers(">"), lambda text: None)
        return True

    def _leaf(self, m: Machine, key: str, emit: Emit, schema: Schema | None, ends: Ends) -> Done:
        """The text of an element up to its closer, or to what shows that it is missing."""
        tape = m.tape
        closed, tag = f"{self.mark}</{key}>", f"{self.mark}<"

        def judge(found: str) -> Generator[None, None, Verdict]:
            if found == closed:
                return Verdict.CLOSES
            if found[0] == "\n":
                return Verdict.STRUCTURE if (yield from ends.surely(tape, m.names, m.final)) else Verdict.PERHAPS
            if found != tag:  # another closer
                name = yield from Look(tape).word(_NAME, _LONGEST)
                behind = Look(tape)
                yield from behind.word(_NAME, _LONGEST)
                if (yield from behind.char()) != ">":
                    return Verdict.TEXT
                behind.skip()
                if not (yield from behind.space()) or (yield from behind.marker(markers(tag, f"{self.mark}</"))):
                    return Verdict.STRUCTURE if name else Verdict.TEXT
                return Verdict.PERHAPS
            ahead = Look(tape)
            name = yield from ahead.word(_NAME, _LONGEST)
            known = schema is not None and name != key and schema.member(name) is not None
            return Verdict.STRUCTURE if known and (yield from ahead.char()) == ">" else Verdict.TEXT

        verdict = yield from text_value(
            tape, emit, markers(closed, f"{self.mark}</", tag, *(f"\n{mark}" for mark in ends.marks.spellings)), judge
        )
        if verdict is Verdict.STRUCTURE:
            m.recovered("a value without its closer")
        return verdict is not Verdict.CUT

    def _element(self, m: Machine, node: _Node, ends: Ends) -> Generator[None, None, tuple[str, bool]]:
        """The JSON text of an element whose opening tag was read; and whether the text went on behind it."""
        tape = m.tape
        stack = [node]
        wanted = markers(f"{self.mark}<", f"{self.mark}</")
        while True:
            here = stack[-1]
            pieces: list[str] = []
            found = yield from until(tape, wanted, pieces.append)
            here.text += "".join(pieces)
            tape.keep(found)
            holes: dict[str, str] = {}
            whole = bool(found) and (yield from fill(tape, self._tags, holes))
            raw = tape.release()
            if not whole and found:
                here.text += raw
                continue
            if found and found[-1] != "/" and len(stack) <= DEPTH and raw.strip() not in ends.marks.spellings:
                types = here.schema.types if here.schema is not None else frozenset()
                inner = None
                if here.schema is not None:
                    inner = here.schema.items if "array" in types else here.schema.member(holes["key"])
                stack.append(_Node(holes["key"], inner, []))
                continue
            # a closer: of this element, of one around it (then what is inside is closed too), or of none
            known = [n.key for n in stack]
            leaving = len(stack)
            if found and holes["key"] in known:
                leaving = len(known) - 1 - max(i for i, k in enumerate(known) if k == holes["key"]) + 1
            elif found and raw.strip() in ends.marks.spellings:
                tape.back(raw)
            elif found:
                leaving = 1  # a closer by a wrong name
            if not found or leaving > 1 or holes.get("key") != here.key:
                m.recovered("a value without its closer")
            for _ in range(leaving):
                closed = stack.pop()
                if not stack:
                    return closed.json(), bool(found)
                stack[-1].children.append((closed.key, closed.json()))

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
