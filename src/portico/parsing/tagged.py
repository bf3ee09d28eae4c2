"""Arguments as tag pairs, one per parameter, with values of bare text (Qwen3-Coder, GLM, MiniMax-M2, DeepSeek V3.2 …).

    <parameter=city>
    Oslo
    </parameter>

A value is typed by the tool's schema. What can only be a string streams; everything else waits for its closer, because
only then its type is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from portico import grammar as g
from portico.parsing.arguments import text_of
from portico.parsing.ending import Ends, Verdict, text_value
from portico.parsing.json_text import Done, Emit, escaped, quoted
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import Look, Markers, Tape, comes, markers, peek, space
from portico.parsing.values import as_json
from portico.parsing.wire import (
    BLANK,
    NEARLY,
    Attributes,
    Hole,
    Literal,
    Optional,
    attributes,
    cores,
    fill,
    fill_in,
    parts,
    spellings,
    split_at,
    unslashed,
)

__all__ = ["Tagged"]

_LINE_ENDS = ("\n", "\r")
_SHORT = 8  # pieces of a value that are remembered
_SHORTEST = 3  # characters of an opener that is not doubled by chance
_KEY = re.compile(r"[\w.\-]*")
_LAST_WORD = re.compile(r"""([\w.\-]+)["'\s]*\Z""")
_LONGEST_KEY = 128
_LONGEST_DAMAGED = 40  # characters of a marker in place of a key's closer
_LONGEST_LOST = 96  # characters in front of a value whose opener is damaged
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
    def _framing(self) -> tuple[str, str]:
        """The white space that the template has on both sides of a value."""
        head, tail = self._head[-1], self._tail[0]
        before = head.text[len(head.text.rstrip(BLANK)) :] if isinstance(head, Literal) else ""
        after = tail.text[: len(tail.text) - len(tail.text.lstrip(BLANK))] if isinstance(tail, Literal) else ""
        return (before or "\n", after or "\n") if self.loose else (before, after)

    @cached_property
    def openers(self) -> tuple[str, ...]:
        return cores(self._head)[:1]

    @cached_property
    def _opens(self) -> Markers:
        return markers(*(spelling for opener in self.openers for spelling in spellings(opener)))

    @cached_property
    def _key_first(self) -> bool:
        """Whether the key stands between tags of its own."""
        return len(self._head) > 2 and isinstance(self._head[1], Hole) and self._head[2] != self._head[-1]

    @cached_property
    def _rest_of_head(self) -> tuple[Any, ...]:
        """What is read behind the opener: where a key has tags of its own, all but its opener may be lost."""
        first, *rest = self._head[1:]
        return (first, *map(_may_miss, rest)) if self._key_first else (first, *rest)

    def begins(self, tape: Tape, ends: Ends) -> Done:
        look = Look(tape)
        found = yield from look.marker(markers(*self._opens.spellings, *ends.marks.spellings))
        if found in self.openers and isinstance(self._head[1], Attributes):  # and no longer word that begins like it
            word = yield from look.word(_KEY, _LONGEST_KEY)
            return not word or word.endswith(self._head[1].pairs[0][0])
        if found:
            return True
        return tape.ended and not tape.text[tape.at :].strip(BLANK)

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        tape = m.tape
        separator = "{"
        given: dict[str, str] = {}  # short values so far, to tell the branches of a schema apart
        while True:
            head: dict[str, str] | None = None
            opened = yield from comes(tape, self._opens, take=False)
            if not opened and not (yield from comes(tape, ends.marks, take=False)):
                head = yield from self._lost_head(tape, schema, given)
            if head is None and not opened:
                ended = (yield from comes(tape, ends.marks, take=False)) or (yield from Look(tape).space())
                if separator != "{":
                    m.arguments("}")
                elif not ended and not m.stopped:
                    return False  # cut behind the header
                return not ended or bool((yield from comes(tape, ends.marks, take=False)))
            if head is not None:
                m.recovered("an opener that is nearly right")
            else:
                tape.keep()
                head = yield from self._head_of(tape, schema)
                if head is None:
                    if m.no_part():
                        return False
                    continue
                tape.commit()
            key = head["key"]
            say = _nothing if self.first and key in given else m.arguments
            say(f"{separator}{quoted(key)}: ")
            separator = ", "
            declared = schema.member(key, given) if schema is not None else None
            pieces: list[str] = []

            def remember(text: str, pieces: list[str] = pieces, say: Emit = say) -> None:
                say(text)
                if len(pieces) < _SHORT:
                    pieces.append(text)

            if not (yield from self._value(m, remember, declared, head, ends, schema, given)):
                return False
            given.setdefault(key, "".join(pieces))

    def _head_of(self, tape: Tape, schema: Schema | None) -> Generator[None, None, dict[str, str] | None]:
        """Consume what stands in front of a value; its holes, or None if this is no such head."""
        opened = yield from comes(tape, self._opens)
        while len(opened) > _SHORTEST and (yield from comes(tape, markers(opened))):
            pass  # written twice it counts once
        look = Look(tape)
        yield from look.space()
        key = yield from look.word(_KEY, _LONGEST_KEY)
        if (
            self._key_first
            and (yield from look.space()) == "="
            and schema is not None
            and schema.member(key) is not None
        ):
            yield from space(tape)
            tape.take(tape.at + len(key))
            yield from comes(tape, markers("="))
            return {"key": key}  # <arg_key>key=value</arg_value>
        holes: dict[str, str] = {}
        done = yield from fill(tape, self._rest_of_head, holes, entities=self.entities)
        if not done or "key" not in holes:
            return None
        if schema is not None and schema.member(holes["key"]) is None and (key := self._key_in(holes["key"], schema)):
            holes |= {"key": key, NEARLY: holes["key"]}
        exact = opened in self.openers and NEARLY not in holes
        return holes if exact or (schema is not None and schema.member(holes["key"]) is not None) else None

    def _key_in(self, text: str, schema: Schema) -> str:
        """The declared key with which a text begins whose rest is what is left of a damaged closer; "" if none does."""
        key = max((name for name, _, _ in schema.members() if text.startswith(name)), key=len, default="")
        rest = text[len(key) :].strip(BLANK).removeprefix(self.openers[0])  # perhaps without its slash
        own = (self._closer, *self.openers)
        damaged = len(rest) <= _LONGEST_DAMAGED and '"' not in rest and not any(marker in rest for marker in own)
        return key if damaged else ""

    def _lost_head(
        self, tape: Tape, schema: Schema | None, given: Mapping[str, str]
    ) -> Generator[None, None, dict[str, str] | None]:
        """Consume what stands in front of a value whose opener is lost or damaged: a declared key without a value, and
        then what ends the head. Its holes, or None if this is no such head."""
        part = self._head[1]
        end = part.end if isinstance(part, Attributes) else next(iter(cores(self._head[2:])), "")
        if schema is None or not end:
            return None
        offset = 0
        while True:
            window = tape.text[tape.at : tape.at + _LONGEST_LOST]
            full = tape.ended or len(window) == _LONGEST_LOST
            found = markers(end).search(window, offset, full)
            if found is None or not found[2]:
                if full:
                    return None
                yield
                continue
            chunk, offset = window[: found[0]], found[1]
            holes = self._lost_holes(chunk)
            key = holes.get("key", "")
            if self._closer in chunk:
                return None
            if key and key not in given and schema.member(key) is not None:
                break
        tape.take(tape.at + (found[1] if isinstance(part, Attributes) else found[0]))
        if not isinstance(part, Attributes):
            yield from fill(tape, self._rest_of_head[1:], holes)
        return holes

    def _lost_holes(self, chunk: str) -> dict[str, str]:
        """The holes of a head, by what stands in front of its end."""
        holes: dict[str, str] = {}
        part = self._head[1]
        if isinstance(part, Attributes):
            attributes(chunk, part, holes, self.entities)
        elif word := _LAST_WORD.search(chunk):
            holes["key"] = word[1]
        return holes

    def _value(
        self,
        m: Machine,
        emit: Emit,
        declared: Schema | None,
        head: Mapping[str, str],
        ends: Ends,
        schema: Schema | None,
        given: Mapping[str, str],
    ) -> Done:
        """One value up to and with its closer; False if the text ended inside it."""
        tape = m.tape
        typed = _told(head, declared)
        cdata = self.cdata and bool((yield from comes(tape, markers("<![CDATA["))))
        if typed is not None and typed.is_text:
            emit('"')

            def pass_on(text: str) -> None:
                emit(escaped(text))

            done = yield from self._text(m, pass_on, ends, schema, given, cdata)
            if done:
                emit('"')
            return done
        pieces: list[str] = []
        done = yield from self._text(m, pieces.append, ends, schema, given, cdata)
        text = "".join(pieces)
        if done or m.stopped or text:
            emit(as_json(text, typed))
        return done

    def _text(
        self,
        m: Machine,
        emit: Emit,
        ends: Ends,
        schema: Schema | None,
        given: Mapping[str, str],
        cdata: bool,
    ) -> Done:
        """The bare text of a value, its framing white space taken off."""
        tape = m.tape
        before, after = ("", "") if cdata else self._framing
        framed = yield from _line_end(tape, before)
        if self.loose and not framed:
            after = ""
        closer = "]]>" if cdata else self._closer
        openers = self.openers

        def judge(found: str) -> Generator[None, None, Verdict]:
            core = found.strip(BLANK)
            if core == closer or core == unslashed(closer):
                if not (yield from self._really(m, ends, closer, schema, given)):
                    return Verdict.PERHAPS if core == closer else Verdict.TEXT
                if core != closer:
                    m.recovered("an opener in place of a closer")
                return Verdict.CLOSES
            if core in openers:
                lined = found[:1] in "\r\n"
                sure = yield from self._is_head(tape, schema, given, lined)
            else:
                sure = yield from ends.surely(tape, m.names, m.final)
            return Verdict.STRUCTURE if sure else Verdict.TEXT if core in openers else Verdict.PERHAPS

        verdict = yield from text_value(tape, emit, _value_ends(closer, after, openers, ends), judge)
        if verdict is Verdict.CLOSES:
            if cdata:
                yield from comes(tape, markers(self._closer))
            while (yield from comes(tape, markers(self._closer))):
                m.recovered("a marker twice")
        elif verdict is Verdict.STRUCTURE and not (yield from comes(tape, markers(closer))):
            m.recovered("a value without its closer")
        return verdict is not Verdict.CUT

    def _really(self, m: Machine, ends: Ends, closer: str, schema: Schema | None, given: Mapping[str, str]) -> Done:
        """Whether what follows a closer shows that it was one."""
        look = Look(m.tape)
        while (yield from look.marker(markers(closer, self._closer))):
            pass
        if not (yield from look.space()) or (yield from look.marker(m.final)):
            return True
        if (yield from look.marker(markers(*self.openers, *ends.marks.spellings))):
            return True
        m.tape.keep()
        lost = yield from self._lost_head(m.tape, schema, given)
        m.tape.back(m.tape.release())
        return lost is not None

    def _is_head(self, tape: Tape, schema: Schema | None, given: Mapping[str, str], lined: bool) -> Done:
        """Whether a parameter's opener, just found inside a value, begins a parameter: on a line of its own, or of a
        key that is declared and has no value yet."""
        matched = tape.matched
        tape.back(matched)
        tape.keep()
        head = yield from self._head_of(tape, schema)
        raw = tape.release()
        tape.back(raw)
        tape.take(tape.at + len(matched))
        if head is None:
            return False
        return (
            lined
            or schema is None
            or schema.is_open
            or (schema.member(head["key"]) is not None and head["key"] not in given)
        )

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


@lru_cache(maxsize=1024)
def _value_ends(closer: str, after: str, openers: tuple[str, ...], ends: Ends) -> Markers:
    """What is looked for inside a value: markers, each together with the framing in front of it, to be held with it."""
    found = {closer, unslashed(closer), *openers, *ends.marks.spellings}
    framed = {after + marker for marker in found} if after else {f"\n{marker}" for marker in found - {closer}}
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


def _may_miss(part: Any) -> Any:
    if isinstance(part, Optional):
        return Optional((part.parts[0], *map(_may_miss, part.parts[1:])))
    return replace(part, may_miss=True) if isinstance(part, Literal) else part


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
