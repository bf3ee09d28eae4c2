"""Arguments as tag pairs, one per parameter, with values of bare text (Qwen3-Coder, GLM, MiniMax-M2, DeepSeek V3.2 …).

    <parameter=city>
    Oslo
    </parameter>

A value is typed by the tool's schema. What can only be a string streams; everything else waits for its closer, because
only then its type is known.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from portico import grammar as g
from portico.parsing.arguments import text_of
from portico.parsing.ending import Ends, Verdict, text_value
from portico.parsing.heads import Heads, Members
from portico.parsing.json_text import Done, Emit, escaped, quoted
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import Look, Markers, Tape, comes, markers, peek
from portico.parsing.values import as_json
from portico.parsing.wire import BLANK, NEARLY, Literal, cores, fill_in, parts, split_at, unslashed

__all__ = ["Tagged"]

_LINE_ENDS = ("\n", "\r")
_SHORT = 8  # pieces of a value that are remembered
_STRING = Schema({"type": "string"})


@dataclass(frozen=True)
class Tagged:
    """One tag pair per parameter; values are text, typed by the tool's schema.

    ``param`` is the template of one parameter with the holes ``key`` and ``value``, and ``type`` or ``string`` where
    the wire says which type the value has (``string="true"``, ``type="integer"``). White space that the template has
    next to ``{value}`` is framing, once. A closer counts only if another parameter or the end of the call follows, so
    values may hold the closer's text; where a closer is missing, the next thing that can only be structure ends the
    value (``ending``).

    ``loose``: one line end on each side of a value is framing even where the template has none, if both are
    there. ``entities``: attributes write ``&quot;`` and ``&amp;``. ``cdata``: values may be CDATA sections.
    ``integer``: what the wire calls the type of an integer. ``first``: of two values of one name the first
    counts.
    """

    param: str
    loose: bool = False
    entities: bool = False
    cdata: bool = False
    integer: str = "integer"
    first: bool = False

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
    def _heads(self) -> Heads:
        return Heads(self._head, self._closer, self.entities)

    @cached_property
    def _framing(self) -> tuple[str, str]:
        """The white space that the template has on both sides of a value."""
        head, tail = self._head[-1], self._tail[0]
        before = head.text[len(head.text.rstrip(BLANK)) :] if isinstance(head, Literal) else ""
        after = tail.text[: len(tail.text) - len(tail.text.lstrip(BLANK))] if isinstance(tail, Literal) else ""
        return (before or "\n", after or "\n") if self.loose else (before, after)

    @cached_property
    def _gap(self) -> str:
        """The white space behind a value's closer."""
        closer = self._tail[0].text
        return str(closer[len(closer.rstrip(BLANK)) :])

    @property
    def openers(self) -> tuple[str, ...]:
        return self._heads.openers

    def begins(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        tape = m.tape
        if (yield from comes(tape, ends.marks, take=False)):
            return True
        if (yield from self._heads.begin(tape, Members(schema, m.tools), _marks(ends, m))):
            return True
        return tape.ended and not tape.text[tape.at :].strip(BLANK)

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        tape = m.tape
        members = Members(schema, m.tools)
        marks = _marks(ends, m)
        separator = "{"
        while True:
            head = yield from self._heads.read(tape, members, marks)
            if head is None:
                if (yield from comes(tape, self._heads.spelled, take=False)):
                    tape.keep()
                    yield from comes(tape, self._heads.spelled)
                    if m.no_part():
                        return False
                    continue
                ended = (yield from comes(tape, ends.marks, take=False)) or (yield from Look(tape).space())
                if separator != "{":
                    m.arguments("}")
                elif not ended and not m.stopped:
                    return False  # cut behind the header
                return not ended or bool((yield from comes(tape, ends.marks, take=False)))
            if NEARLY in head:
                m.recovered("an opener that is nearly right")
            key = head["key"]
            say = _nothing if self.first and key in members.given else m.arguments
            say(f"{separator}{quoted(key)}: ")
            separator = ", "
            pieces: list[str] = []

            def remember(text: str, pieces: list[str] = pieces, say: Emit = say) -> None:
                say(text)
                if len(pieces) < _SHORT:
                    pieces.append(text)

            if not (yield from self._value(m, remember, head, ends, members)):
                return False
            members.given.setdefault(key, "".join(pieces))

    def _value(self, m: Machine, emit: Emit, head: Mapping[str, str], ends: Ends, members: Members) -> Done:
        """One value up to and with its closer; False if the text ended inside it."""
        tape = m.tape
        typed = _told(head, members.known(head["key"]))
        cdata = self.cdata and bool((yield from comes(tape, markers("<![CDATA["))))
        if typed is not None and typed.is_text:
            emit('"')

            def pass_on(text: str) -> None:
                emit(escaped(text))

            done = yield from self._text(m, pass_on, ends, members, cdata)
            if done:
                emit('"')
            return done
        pieces: list[str] = []
        done = yield from self._text(m, pieces.append, ends, members, cdata)
        text = "".join(pieces)
        if done or m.stopped or text:
            emit(as_json(text, typed))
        return done

    def _text(self, m: Machine, emit: Emit, ends: Ends, members: Members, cdata: bool) -> Done:
        """The bare text of a value, its framing white space taken off."""
        tape = m.tape
        before, after = ("", "") if cdata else self._framing
        framed = yield from _line_end(tape, before)
        if self.loose and not framed:
            after = ""
        closer = "]]>" if cdata else self._closer
        openers, marks = self.openers, _marks(ends, m)
        suspected = False  # the call may have ended

        def judge(found: str) -> Generator[None, None, Verdict]:
            nonlocal suspected
            core = found.strip(BLANK)
            if core == closer or core == unslashed(closer):
                if not (yield from self._really(m, ends, closer, members)):
                    return Verdict.PERHAPS if core == closer else Verdict.TEXT
                if core != closer:
                    m.recovered("an opener in place of a closer")
                return Verdict.CLOSES
            if core in openers:
                begins = yield from self._begins_here(tape, members, marks, found[:1] in "\r\n", suspected)
                return Verdict.STRUCTURE if begins else Verdict.TEXT
            key = yield from self._heads.ahead(tape, members, marks)
            if members.expects(key):
                m.recovered("another marker in place of a closer")
                return Verdict.CLOSES
            if core in m.final.spellings:
                sure = yield from ends.follow(Look(tape), m.names, m.final)
                return Verdict.CLOSES if sure else Verdict.TEXT
            suspected = True
            return Verdict.STRUCTURE if (yield from ends.surely(tape, m.names, m.final)) else Verdict.PERHAPS

        wanted = _value_ends(closer, after, after and self._gap, openers, marks)
        verdict = yield from text_value(tape, emit, wanted, judge)
        if verdict is Verdict.CLOSES:
            if cdata:
                yield from comes(tape, markers(self._closer))
            while (yield from comes(tape, markers(self._closer))):
                m.recovered("a marker twice")
        elif verdict is Verdict.STRUCTURE and not (yield from comes(tape, markers(closer))):
            m.recovered("a value without its closer")
        return verdict is not Verdict.CUT

    def _really(self, m: Machine, ends: Ends, closer: str, members: Members) -> Done:
        """Whether what follows a closer shows that it was one."""
        look = Look(m.tape)
        while (yield from look.marker(markers(closer, self._closer))):
            pass
        if not (yield from look.space()) or (yield from look.marker(m.final)):
            return True
        if (yield from look.marker(markers(*self.openers, *ends.marks.spellings))):
            return True
        return (yield from self._heads.lost(m.tape, members, _marks(ends, m)))

    def _begins_here(self, tape: Tape, members: Members, marks: Markers, lined: bool, suspected: bool) -> Done:
        """Whether a parameter's opener, just found inside a value, begins a parameter: on a line of its own, of a key
        that is declared and has no value yet, or behind what may have ended the call."""
        matched = tape.matched
        tape.back(matched)
        key = yield from self._heads.ahead(tape, members, marks)
        tape.take(tape.at + len(matched))
        return bool(key) and (lined or members.welcomes(key) or (suspected and members.declares(key)))

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, arguments: str, schema: Schema | None) -> str:
        written = ""
        for key, value in json.loads(arguments).items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            before, after = self._framing
            if self.loose:
                text = before + text + after if text.startswith(_LINE_ENDS) else text
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


def _marks(ends: Ends, m: Machine) -> Markers:
    """What may end a call or the answer."""
    return markers(*ends.marks.spellings, *m.final.spellings)


@lru_cache(maxsize=1024)
def _value_ends(closer: str, after: str, gap: str, openers: tuple[str, ...], marks: Markers) -> Markers:
    """What is looked for inside a value: markers, each together with the framing in front of it, to be held with it.
    ``gap`` stands behind a closer, so also where the closer itself is lost."""
    found = {closer, unslashed(closer), *openers, *marks.spellings}
    framed = {after + marker for marker in found} if after else {f"\n{marker}" for marker in found - {closer}}
    framed |= {after + gap + marker for marker in (*openers, *marks.spellings) if gap}
    if after == "\n":
        framed |= {f"\r\n{marker}" for marker in found}
    return markers(*sorted(found | framed))


def _line_end(tape: Tape, before: str) -> Done:
    """Consume the framing in front of a value; whether there was some."""
    first = (yield from peek(tape)) if before else ""
    if first and first == before[0]:
        tape.take(tape.at + 1)
        return True
    if first == "\r" and before[:1] == "\n":
        tape.take(tape.at + 1)
        if (yield from peek(tape)) == "\n":
            tape.take(tape.at + 1)
        return True
    return False


def _nothing(text: str) -> None:
    """A value that does not count."""


def _told(holes: Mapping[str, str], declared: Schema | None) -> Schema | None:
    """The type that the wire gives, or else the schema's."""
    if holes.get("string", "").lower() == "true":
        return _STRING
    if "string" in holes:
        return declared if declared is not None and "string" not in declared.types else None
    named = holes.get("type")
    return Schema({"type": named}) if named else declared
