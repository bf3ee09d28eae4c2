"""Arguments as tag pairs, one per parameter, with values of bare text (Qwen3-Coder, GLM, MiniMax-M2, DeepSeek V3.2 …).

    <parameter=city>
    Oslo
    </parameter>

A value is typed by the tool's schema. What can only be a string streams; what can only be an object or array streams
once it has begun well; everything else waits for its closer, because only then its type is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from portico import grammar as g
from portico.parsing.arguments import text_of
from portico.parsing.json_text import Done, escaped, quoted
from portico.parsing.literals import PYTHON, literal
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import Markers, Tape, comes, markers, peek, space, until
from portico.parsing.values import as_json
from portico.parsing.wire import BLANK, Literal, cores, fill, fill_in, parts, split_at

__all__ = ["Tagged"]

_LINE_ENDS = ("\n", "\r")
_SETTLED = 16  # characters of an object that read well before it is believed and streamed
_STRING = Schema({"type": "string"})


@dataclass(frozen=True)
class Tagged:
    """One tag pair per parameter; values are text, typed by the tool's schema.

    ``param`` is the template of one parameter with the holes ``key`` and ``value``, and ``type`` or ``string`` where
    the wire says which type the value has (``string="true"``, ``type="integer"``). White space that the template has
    next to ``{value}`` is framing, once. A closer counts only if another parameter or the end of the call follows, so
    values may hold the closer's text; where a closer is missing, a line that begins the next parameter or ends the
    call closes the value.

    ``wrapper``: names of a parameter that, alone and undeclared, holds all arguments. ``loose``: one line end on each
    side of a value is framing even where the template has none. ``entities``: attributes write ``&quot;`` and
    ``&amp;``. ``cdata``: values may be CDATA sections. ``integer``: what the wire calls the type of an integer.
    """

    param: str
    wrapper: tuple[str, ...] = ()
    loose: bool = False
    entities: bool = False
    cdata: bool = False
    integer: str = "integer"

    @cached_property
    def _head(self) -> tuple[Any, ...]:
        return split_at(parts(self.param), "value")[0]

    @cached_property
    def _tail(self) -> tuple[Any, ...]:
        return split_at(parts(self.param), "value")[1]

    @cached_property
    def _closer(self) -> str:
        return cores(self._tail)[0]

    @cached_property
    def _framing(self) -> tuple[str, str]:
        """The white space that the template has on both sides of a value."""
        head, tail = self._head[-1], self._tail[0]
        before = head.text[len(head.text.rstrip(BLANK)) :] if isinstance(head, Literal) else ""
        after = tail.text[: len(tail.text) - len(tail.text.lstrip(BLANK))] if isinstance(tail, Literal) else ""
        return (before or "\n", after or "\n") if self.loose else (before, after)

    @cached_property
    def openers(self) -> tuple[str, ...]:
        return cores(self._head)[:1]

    def begins(self, tape: Tape, enders: Markers) -> Done:
        if (yield from comes(tape, markers(*self.openers, *enders.spellings), take=False)):
            return True
        return tape.ended

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, m: Machine, schema: Schema | None, enders: Markers) -> Done:
        tape = m.tape
        opener = markers(*self.openers)
        either = markers(*self.openers, *enders.spellings)
        separator = "{"
        alone: tuple[str, str] | None = None  # a wrapper parameter, held until it is known to be the only one
        while True:
            tape.keep()
            if not (yield from comes(tape, opener)):
                tape.commit()
                ended = (yield from comes(tape, enders, take=False)) or (yield from peek(tape))
                if alone:
                    m.arguments(_object_or_none(alone[1]) or f'{{"{escaped(alone[0])}": {alone[1]}}}')
                elif separator != "{":
                    m.arguments("}")
                elif not ended and not m.stopped:
                    return False  # cut behind the header
                return True
            holes: dict[str, str] = {}
            if not (yield from fill(tape, _behind(self._head), holes, entities=self.entities)) or "key" not in holes:
                m.spill(tape.release())
                continue
            tape.commit()
            key = holes["key"]
            declared = schema.member(key) if schema is not None else None
            if alone:
                m.arguments(f'{{"{escaped(alone[0])}": {alone[1]}')
                separator, alone = ", ", None
            if key in self.wrapper and declared is None and separator == "{":
                pieces: list[str] = []
                whole = yield from self._value(tape, pieces.append, declared, holes, either, enders)
                alone = key, "".join(pieces)
            else:
                m.arguments(f"{separator}{quoted(key)}: ")
                separator = ", "
                whole = yield from self._value(tape, m.arguments, declared, holes, either, enders)
            if not whole:
                if alone:
                    m.arguments(f'{{"{escaped(alone[0])}": {alone[1]}')
                return False

    def _value(
        self, tape: Tape, emit: Any, declared: Schema | None, holes: Mapping[str, str], either: Markers, enders: Markers
    ) -> Done:
        """One value up to and with its closer; False if the text ended inside it."""
        schema = _told(holes, declared)
        if self.cdata and (yield from comes(tape, markers("<![CDATA["))):
            holes = {"cdata": ""}
        if schema is not None and schema.is_text:
            emit('"')

            def pass_on(text: str) -> None:
                emit(escaped(text))

            done = yield from self._text(tape, pass_on, either, enders, "cdata" in holes)
            if done:
                emit('"')
            return done
        if schema is not None and schema.is_nested and (yield from space(tape)) in ("{", "["):
            return (yield from self._nested(tape, emit, schema, either, enders))
        pieces: list[str] = []
        done = yield from self._text(tape, pieces.append, either, enders, "cdata" in holes)
        text = "".join(pieces)
        if text or done:
            emit(as_json(text, schema))
        return done

    def _nested(self, tape: Tape, emit: Any, schema: Schema, either: Markers, enders: Markers) -> Done:
        """An object or array; streamed once it is past its first members without a fault, else taken as text."""
        held: list[str] = []
        settled = False

        def pass_on(text: str) -> None:
            nonlocal settled
            if settled:
                emit(text)
                return
            held.append(text)
            if sum(map(len, held)) > _SETTLED:
                settled = True
                tape.commit()
                emit("".join(held))

        tape.keep()
        good = yield from literal(tape, pass_on, PYTHON, None)
        if settled:
            rest: list[str] = []
            done = yield from self._text(tape, rest.append, either, enders, False)
            emit("".join(rest).strip(BLANK))
            return done
        raw = tape.release()
        pieces: list[str] = [raw]
        done = yield from self._text(tape, pieces.append, either, enders, False)
        text = "".join(pieces)
        behind = text[len(raw) :].strip(BLANK)
        if good and not behind:
            emit("".join(held))
        elif done:
            emit(as_json(text.strip(BLANK), schema))
        else:
            emit("".join(held) or text)
        return done

    def _text(self, tape: Tape, emit: Any, either: Markers, enders: Markers, cdata: bool) -> Done:
        """The bare text of a value, its framing white space taken off."""
        before, after = ("", "") if cdata else self._framing
        if before and (yield from peek(tape)) == before[0]:
            tape.take(tape.at + 1)
        elif before[:1] == "\n" and (yield from peek(tape)) == "\r":
            tape.take(tape.at + 1)
            if (yield from peek(tape)) == "\n":
                tape.take(tape.at + 1)
        closer = "]]>" if cdata else self._closer
        # a closer is looked for together with the framing in front of it, so that this is held back with it
        wanted = _value_ends(closer, after, self.openers, enders)
        while True:
            found = yield from until(tape, wanted, emit)
            if not found:
                return False
            core = found.strip(BLANK)
            if core == closer:
                if cdata:
                    yield from comes(tape, markers(self._closer))
                    return True
                if (yield from self._really(tape, either)):
                    return True
                emit(found)
            else:  # the closer is missing: the next parameter, or the end of the call, stands on a new line
                tape.text = found + tape.text[tape.at :]
                tape.at = 0
                return True

    def _really(self, tape: Tape, either: Markers) -> Done:
        """Whether what follows a closer shows that it was one."""
        if (yield from comes(tape, either, take=False)):
            return True
        return tape.ended and not tape.text[tape.at :].strip(BLANK)

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, arguments: str, schema: Schema | None) -> str:
        written = ""
        for key, value in json.loads(arguments).items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            before, after = self._framing
            if self.loose:
                text = before * text.startswith(_LINE_ENDS) + text + after * text.endswith(_LINE_ENDS)
            holes = {"key": key, "value": text, "type": self._type_name(value)}
            holes["string"] = "true" if isinstance(value, str) else "false"
            written += fill_in(parts(self.param), holes, self.entities)
        return written

    def _type_name(self, value: Any) -> str:
        names = {str: "string", bool: "boolean", int: self.integer, float: "number", dict: "object", list: "array"}
        return names.get(type(value), "null")

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        tail = fill_in(self._tail, {})
        stop = tail.rstrip(BLANK)
        gap = tail[len(stop) :]
        found: list[g.Grammar] = []
        for key, member, required in schema.members():
            typed = member.types
            kinds = sorted(typed - {"string"}) if typed and "string" not in typed else ["string"]
            texts: list[g.Grammar] = []
            for kind in kinds if "{type}" in self.param else kinds[:1]:
                holes = {
                    "key": key,
                    "type": self.integer if kind == "integer" else kind,
                    "string": "true" if kind == "string" else "false",
                }
                head = fill_in(self._head, holes, self.entities)
                texts.append(g.Chain((g.Exactly(head), *text_of(member, arguments, stop), g.Exactly(gap))))
            found.append(_optional(texts[0] if len(texts) == 1 else g.OneOf(tuple(texts)), required))
        if not found and schema.is_open:
            named = {"key": "\1", "type": "string", "string": "true"}
            before, _, behind = fill_in(self._head, named, self.entities).partition("\1")
            name = g.Pattern("[A-Za-z_][A-Za-z0-9_]{0,63}")
            part = g.Chain((g.Exactly(before), name, g.Exactly(behind), g.Until((stop,)), g.Exactly(gap)))
            found.append(g.Repeated(part))
        return tuple(found)


def _optional(part: g.Grammar, required: bool) -> g.Grammar:
    return part if required else g.Repeated(part, 0, 1)


def _value_ends(closer: str, after: str, openers: tuple[str, ...], enders: Markers) -> Markers:
    missing = {f"\n{marker}" for marker in (*openers, *enders.spellings)}
    framed = {closer}
    if after:
        framed |= {after + closer, "\r\n" + closer} if after == "\n" else {after + closer}
    return markers(*sorted(framed | missing))


def _behind(head: tuple[Any, ...]) -> tuple[Any, ...]:
    """A template without its first literal, which was read already."""
    return head[1:]


def _told(holes: Mapping[str, str], declared: Schema | None) -> Schema | None:
    """The type that the wire gives, or else the schema's."""
    if holes.get("string", "").lower() == "true":
        return _STRING
    if "string" in holes:
        return declared if declared is not None and "string" not in declared.types else None
    named = holes.get("type")
    return Schema({"type": named}) if named else declared


def _object_or_none(text: str) -> str | None:
    return text if text[:1] == "{" else None
