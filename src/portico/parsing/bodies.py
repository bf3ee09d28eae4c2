"""The shapes of one call: a header with the name in front of the arguments, or a JSON object with both (``objects``).

Each reads one call after an opener (committing it to the machine when its header is complete), writes one, and gives
the grammar of one. Where the name is declared, arguments may also be a JSON object in place of the family's own coding.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from portico import grammar as g
from portico.events import ToolCall
from portico.parsing.arguments import Codec, Json, arguments_follow, arguments_object, object_follows
from portico.parsing.json_text import Done
from portico.parsing.machine import Machine
from portico.parsing.objects import JsonObject, SingleKey
from portico.parsing.schema import Schema
from portico.parsing.strays import SHORTEST
from portico.parsing.tape import Look, Markers, comes, markers
from portico.parsing.unmarked import is_line
from portico.parsing.wire import (
    BLANK,
    NEARLY,
    Attributes,
    Hole,
    Literal,
    Optional,
    Part,
    cores,
    fill,
    fill_in,
    literals,
    parts,
    plain,
    unslashed,
)

if TYPE_CHECKING:
    from portico.parsing.calls import Calls

__all__ = ["Headed", "JsonObject", "SingleKey"]

_ID = re.compile("[a-z0-9]*")
_LONGEST_ID = 32


@dataclass(frozen=True)
class Headed:
    """The name (and perhaps an id) in a header, the arguments behind it.

    ``header`` and ``close`` are wire templates; ``named`` makes the name of the word that the header has
    for it; where that word is also the call's id (``{id}``), ``ident`` writes it. An id that is the model's to
    choose has an ``id_pattern``, a regular expression, and ``ident`` chooses one.
    """

    header: str
    arguments: Codec
    close: str = ""
    named: Callable[[str], str] | None = None
    ident: Callable[[int, str], str] | None = None
    id_pattern: str | None = None
    entities: bool = False

    @cached_property
    def openers(self) -> tuple[str, ...]:
        first, *others = cores(self._header) or ("",)
        return tuple(opener for opener in (first, *(o for o in others if len(o) > SHORTEST)) if opener)

    @property
    def firsts(self) -> tuple[str, ...]:
        return self.openers

    @cached_property
    def closers(self) -> tuple[str, ...]:
        return literals(self.close)

    @cached_property
    def heads(self) -> tuple[Markers, ...]:
        found = []
        for part in self._header:
            if isinstance(part, Literal) and part.core:
                found.append(markers(part.core))
            elif isinstance(part, Attributes):
                found.append(markers(f'{part.pairs[0][0]}="'))
            if not isinstance(part, Literal | Optional):
                break
        return tuple(found)

    @cached_property
    def _header(self) -> tuple[Part, ...]:
        return parts(self.header)

    @cached_property
    def _read_header(self) -> tuple[Part, ...]:
        """The header as it is read: what stands between the name and a JSON object may be lost."""
        if not isinstance(self.arguments, Json):
            return self._header
        at = max((i for i, part in enumerate(self._header) if isinstance(part, Hole)), default=len(self._header))
        behind = (replace(p, may_miss=True) if isinstance(p, Literal) else p for p in self._header[at + 1 :])
        return (*self._header[: at + 1], *behind)

    def read(self, m: Machine, calls: Calls) -> Done:
        tape, ends = m.tape, calls.ends_of(self)
        holes: dict[str, str] = {}
        follow = (*self.arguments.openers, *ends.marks.spellings, "{", ">")
        if not (yield from fill(tape, self._read_header, holes, follow, self.entities)):
            return False
        word = holes.get("name") or holes.get("id") or ""
        name = m.named(self.named(word) if self.named else word)
        if NEARLY in holes:
            if name not in m.tools or (isinstance(self.arguments, Json) and not (yield from object_follows(tape))):
                return False
            m.recovered("an opener that is nearly right")
        if not calls.believes(m, name):
            return False
        codec = self.arguments
        if not (yield from codec.begins(m, m.tools.get(name), ends)):
            if name not in m.tools:
                return False
            if (yield from comes(tape, markers(">"), take=False)):
                yield from comes(tape, markers(">"))
            codec = Json()
            if not (yield from object_follows(tape)):
                return False
            m.recovered("JSON in place of the family's arguments")
        braced = isinstance(codec, Json) and (yield from comes(tape, markers("{"), take=False))
        if braced and m.wary and not (yield from object_follows(tape)):
            return False
        if isinstance(codec, Json) and not braced:
            text = yield from arguments_object(m, ends, m.tools.get(name))
            if text is None:
                return False
            m.call(name, holes.get("id"))
            m.arguments(text)
            m.end_call()
        else:
            m.call(name, holes.get("id"))
            yield from arguments_follow(m, codec, name, ends)
        if self.close:
            closers = markers(*self.closers, *map(unslashed, self.closers))
            if (yield from comes(tape, closers)):
                while (yield from comes(tape, closers)):
                    m.recovered("a marker twice")
        return True

    def starts(self, m: Machine, look: Look, calls: Calls) -> Done:
        at = next((index for index, part in enumerate(self._header) if isinstance(part, Hole)), 0)
        for part in self._header[:at]:
            if not (yield from look.marker(markers(*cores((part,))))) and isinstance(part, Literal):
                return False
        hole = self._header[at]
        if not isinstance(hole, Hole):
            return False
        if hole.name == "id" and self.ident and not self.id_pattern:
            found = yield from look.one_of([self.ident(0, name).removesuffix("0") for name in m.tools])
            yield from look.word(_ID, _LONGEST_ID)
        else:
            found = yield from (look.one_of(m.tools) if hole.name == "name" else look.word(_ID, _LONGEST_ID))
        if not found:
            return False
        follow = yield from look.marker(markers(*cores(self._header[at + 1 :]), *self.arguments.openers))
        if follow == "(":
            return (yield from is_line(m, calls.own_closers))
        return len(follow) > SHORTEST or (follow == "{" and ((yield from look.space()) == '"' or bool(self.openers)))

    def write(self, call: ToolCall, index: int, schema: Schema | None) -> str:
        holes = {"name": call.name, "index": str(index + 1)}
        if self.ident:
            holes["id"] = call.id or self.ident(index, call.name)
        elif call.id:
            holes["id"] = call.id
        header = fill_in(self._header, holes, self.entities)
        return f"{header}{self.arguments.write(call.arguments, schema)}{plain(self.close)}"

    @property
    def trailing(self) -> str:
        return self.close[len(self.close.rstrip(BLANK)) :]

    def grammar(self, tool: g.Tool, schema: Schema) -> tuple[g.Grammar, ...]:
        count, chosen = "\1", "\2"  # stand for the call's number and id, which are the model's to say
        holes = {"name": tool.name, "index": count}
        if self.ident:
            holes["id"] = chosen if self.id_pattern else self.ident(0, tool.name).removesuffix("0") + count
        patterns = {count: g.Pattern("[0-9]+"), chosen: g.Pattern(self.id_pattern or "")}
        pieces = re.split(f"([{count}{chosen}])", fill_in(self._header, holes, self.entities))
        header = (patterns.get(piece) or g.Exactly(piece) for piece in pieces)
        return (*header, *self.arguments.grammar(tool.arguments, schema), g.Exactly(self.close.rstrip(BLANK)))
