"""Arguments as keywords in brackets: Python's calls, and the braces of the Gemma family.

get_weather(city="Oslo", days=3)
call:get_weather{city:<|"|>Oslo<|"|>,days:3}
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
from portico.parsing.ending import Ends
from portico.parsing.json_text import Done, Emit, quoted
from portico.parsing.literals import transcribe
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.strings import Dialect, quote_here, string
from portico.parsing.tape import Look, Tape, comes, markers, space, until
from portico.parsing.values import as_json

__all__ = ["Keyword"]

_LOOK = 640
_PLAIN = re.compile(r"[^\W\d][\w.\-$]{0,127}")
_KEY = re.compile(r"[\w.\-$]*")
_LONGEST_KEY = 128
_LITERAL = r"(?:[^\w\s]|\w{1,64}(?:[^\w\s(]|\s{1,8}[^\s(]))"  # what a value may begin with: no call


def _as_text(text: str, schema: Schema | None) -> str:
    return quoted(text)


def _string_as_it_is(tape: Tape, emit: Emit, dialect: Dialect, delimiter: str, place: str, ends: Ends) -> Done:
    """The rest of a string as it stands in the text."""
    before = tape.kept
    tape.kept = [""]
    done = yield from string(tape, _nothing, dialect, delimiter, place, ends)
    emit("".join(tape.kept or ()))
    tape.kept = before
    return done


def _nothing(text: str) -> None:
    """What is read only to find its end."""


@dataclass(frozen=True)
class Keyword:
    """``name(key=value, …)`` or ``name{key:value,…}``: what stands between the brackets.

    ``brackets``: pairs that may enclose the arguments, the written one first; ``sign`` stands between key and value.
    """

    dialect: Dialect
    brackets: tuple[str, ...] = ("()",)
    sign: str = "="
    quote: str = '"'
    separator: str = ", "
    typed: bool = False  # bare values and delimited text are typed by the schema

    @cached_property
    def openers(self) -> tuple[str, ...]:
        return tuple(pair[0] for pair in self.brackets)

    def begins(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        tape = m.tape
        while True:
            text = tape.text[tape.at : tape.at + _LOOK]
            if self._begin.match(text):
                return True
            if tape.ended or len(text) == _LOOK or not self._may_begin.match(text):
                return False
            yield

    @cached_property
    def _begin(self) -> re.Pattern[str]:
        """An opening bracket, and its closer or a key with its sign."""
        key = r"""[\w.\-$]{1,128}|"[^"\n]{1,128}"|<[^>]{1,16}>[^<]{1,128}<[^>]{1,16}>"""
        sign = "[:=]" if self.typed else self.sign
        value = "" if self.typed else rf"\s{{0,64}}{_LITERAL}"
        member = rf"(?:{key})\s{{0,64}}{sign}{value}"
        opened = "|".join(rf"\{pair[0]}\s{{0,64}}(?:\{pair[1]}|{member})" for pair in self.brackets)
        return re.compile(rf"\s{{0,64}}(?:{opened})")

    @cached_property
    def _may_begin(self) -> re.Pattern[str]:
        """What may still become that."""
        key = r"""[\w.\-$]{0,128}|"[^"\n]{0,128}"?|<[^>]{0,16}(?:>[^<]{0,128}(?:<[^>]{0,16}>?)?)?"""
        value = "" if self.typed else rf"(?:{self.sign}\s{{0,64}}\w{{0,64}}\s{{0,8}})?"
        opened = "|".join(rf"\{opener}\s{{0,64}}(?:{key})\s{{0,64}}{value}" for opener in self.openers)
        return re.compile(rf"\s{{0,64}}(?:{opened})?\Z")

    def read(self, m: Machine, schema: Schema | None, ends: Ends) -> Done:
        tape = m.tape
        opener = yield from comes(tape, markers(*self.openers))
        if not opener:
            return False
        closer = next(pair[1] for pair in self.brackets if pair[0] == opener)
        separator = "{"
        while True:
            if (yield from comes(tape, markers(closer))):
                m.arguments("{}" if separator == "{" else "}")
                return True
            key = yield from self._key(tape)
            if key is None:
                return False
            m.arguments(f"{separator}{quoted(key)}: ")
            separator = ", "
            yield from space(tape)
            member = schema.member(key) if schema is not None and self.typed else None
            if not (yield from self._argument(m, member, schema, closer, ends)):
                return False
            if (yield from comes(tape, markers(","))) or (yield from comes(tape, markers(closer), take=False)):
                continue
            look = Look(tape)
            yield from look.space()
            if not (yield from look.word(_KEY, _LONGEST_KEY)) or (yield from look.space()) not in self._signs:
                return bool((yield from comes(tape, ends.marks, take=False)))
            m.recovered("a comma left out")

    def _argument(self, m: Machine, member: Schema | None, schema: Schema | None, closer: str, ends: Ends) -> Done:
        """One value. A string streams; anything else is read when it is whole, so that what is no literal can be given
        as the text it is."""
        tape, dialect = m.tape, self.dialect
        start = yield from quote_here(Look(tape), dialect)
        delimited = not dialect.escapes and member is not None and member.types and "string" not in member.types
        if start and not delimited:
            if start not in dialect.quotes:
                m.recovered("plain quotes in place of the family's")
            yield from comes(tape, markers(start))
            m.arguments('"')
            done = yield from self._string(m, m.arguments, start, closer, schema, ends)
            while done and dialect.escapes and (again := (yield from comes(tape, markers(*dialect.quotes)))):
                done = yield from self._string(m, m.arguments, again, closer, schema, ends)
            if done:
                m.arguments('"')
            return done
        pieces: list[str] = []
        whole = yield from self._raw(m, pieces.append, closer, ends)
        text = "".join(pieces).strip()
        if not whole and not m.stopped:
            return False
        typed = as_json if self.typed else _as_text
        found = transcribe(text, dialect, member, typed)
        if found is None:
            m.recovered("a value that is no literal")
        m.arguments(quoted(text) if found is None else found)
        return True

    def _string(self, m: Machine, emit: Emit, start: str, closer: str, schema: Schema | None, ends: Ends) -> Done:
        return (yield from string(m.tape, emit, self.dialect, start, "=", ends))

    def _raw(self, m: Machine, emit: Emit, closer: str, ends: Ends) -> Done:
        """The text of a value that does not begin with a quote, up to the comma or bracket that ends it."""
        tape, dialect = m.tape, self.dialect
        owed: list[str] = []
        own = dialect.quotes[0]
        wanted = markers(*"()[]{},", *dialect.every, *ends.marks.spellings)
        last = ""

        def pass_on(text: str) -> None:
            nonlocal last
            last = text.rstrip()[-1:] or last
            emit(text)

        while True:
            found = yield from until(tape, wanted, pass_on)
            if not found:
                return False
            if found in ends.marks.spellings:
                tape.back(tape.matched)
                return True
            if found in dialect.every:
                pass_on(found)
                if found == own and not dialect.escapes and last not in (*"([{,:=", ""):
                    continue  # it closes a string whose opening delimiter was lost
                if found != own and last and last not in ("([{,:=" + found):
                    continue  # an apostrophe
                place = owed[-1] if owed else "="
                raw: list[str] = []
                if not (yield from _string_as_it_is(tape, raw.append, dialect, found, place, ends)):
                    pass_on("".join(raw))
                    return False
                pass_on("".join(raw))
                continue
            if found in "([{":
                owed.append({"(": ")", "[": "]", "{": "}"}[found])
            elif found in ")]}":
                if not owed and found == closer:
                    tape.back(found)
                    return True
                if found in owed:
                    while owed.pop() != found:
                        pass
            elif not owed and (yield from self._member(Look(tape), closer)):
                tape.back(found)
                return True
            pass_on(found)

    def _member(self, look: Look, closer: str) -> Generator[None, None, bool]:
        """Whether a key and its sign come, or the closing bracket."""
        if (yield from look.space()) in (closer, ""):
            return True
        if self.typed and (yield from quote_here(look.copy(), self.dialect)):
            return True
        return bool((yield from look.word(_KEY, _LONGEST_KEY))) and (yield from look.space()) in self._signs

    @cached_property
    def _signs(self) -> tuple[str, ...]:
        return (":", "=") if self.typed else (self.sign,)

    def _key(self, tape: Tape) -> Generator[None, None, str | None]:
        signs = markers(*self._signs)
        quote = (yield from comes(tape, markers(*self.dialect.every))) if self.typed else ""
        if quote:
            pieces: list[str] = []
            if not (yield from until(tape, markers(quote), pieces.append)):
                return None
            return "".join(pieces) if (yield from comes(tape, signs)) else None
        yield from space(tape)
        look = Look(tape)
        key = (yield from look.word(_KEY, _LONGEST_KEY)).rstrip()
        if not key or not (yield from look.marker(signs)):
            return None
        tape.take(tape.at + len(key))
        yield from comes(tape, signs)
        return key

    def write(self, arguments: str, schema: Schema | None) -> str:
        members = json.loads(arguments)
        inside = self.separator.join(
            f"{self._bare(key)}{self.sign}{self._value(value)}" for key, value in members.items()
        )
        return f"{self.brackets[0][0]}{inside}{self.brackets[0][1]}"

    def _bare(self, key: str) -> str:
        return f"{self.quote}{key}{self.quote}" if self.typed and not _PLAIN.fullmatch(key) else key

    def _value(self, value: Any) -> str:
        python = self.dialect.escapes
        if isinstance(value, str):
            if python:
                return repr(value) if self.quote == "'" else quoted(value)
            return f"{self.quote}{value}{self.quote}"
        if isinstance(value, dict):
            sign = ": " if python else ":"
            keys = (quoted(key) if python else self._bare(key) for key in value)
            inside = self.separator.join(
                f"{k}{sign}{self._value(v)}" for k, v in zip(keys, value.values(), strict=True)
            )
            return "{" + inside + "}"
        if isinstance(value, list):
            return "[" + self.separator.join(map(self._value, value)) + "]"
        return repr(value) if python else json.dumps(value)

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        opened, closed = self.brackets[0][0], self.brackets[0][1]
        return g.Exactly(opened), self._members(schema, arguments, self.sign, DEPTH_OF_GRAMMAR), g.Exactly(closed)

    def _members(self, schema: Schema, arguments: g.Json, sign: str, depth: int, nested: bool = False) -> g.Grammar:
        """Members in the order of the schema: the required ones, then any of the others."""
        needed: list[g.Grammar] = []
        others: list[g.Grammar] = []
        for key, member, required in schema.members():
            value = self._written(member, arguments, depth)
            literal = self.dialect.escapes and (nested or self.quote == "'")
            name = self._value(key) if literal else self._bare(key)
            (needed if required else others).append(g.Chain((g.Exactly(name + sign), value)))
        comma = g.Exactly(self.separator)
        chain: list[g.Grammar] = []
        for part in needed:
            chain += [comma, part] if chain else [part]
        later = tuple(g.Repeated(g.Chain((comma, part)), 0, 1) for part in others)
        if chain or not others:
            return g.Chain((*chain, *later))
        firsts = [g.Chain((part, *later[index + 1 :])) for index, part in enumerate(others)]
        return g.OneOf((g.Exactly(""), *firsts))

    def _written(self, schema: Schema, arguments: g.Json, depth: int) -> g.Grammar:
        choices = schema.node.get("enum") or ([schema.node["const"]] if "const" in schema.node else [])
        if choices:
            return g.OneOf(tuple(g.Exactly(self._value(choice)) for choice in choices))
        kinds = schema.types or {"string", "number", "boolean", "null"}
        python = self.dialect.escapes
        options: list[g.Grammar] = []
        for kind in sorted(kinds):
            if kind == "string":
                if not python:
                    options.append(g.Chain((g.Exactly(self.quote), *text_of(schema, arguments, self.quote))))
                elif self.quote == "'":
                    options.append(g.Pattern(rf"'([^'\\\x00-\x1f]|\\['\\nrt]){_times(schema)}'"))
                else:
                    options.append(schema.as_json(arguments, kind))
            elif kind in ("integer", "number"):
                options.append(schema.as_json(arguments, kind))
            elif kind in ("boolean", "null"):
                words = (True, False) if kind == "boolean" else (None,)
                options += [g.Exactly(self._value(word)) for word in words]
            elif depth and kind == "array":
                items = g.Repeated(self._written(schema.items, arguments, depth - 1), *schema.sizes, self.separator)
                options.append(g.Chain((g.Exactly("["), items, g.Exactly("]"))))
            elif depth and kind == "object":
                inside = self._members(schema, arguments, ": " if python else ":", depth - 1, nested=True)
                options.append(g.Chain((g.Exactly("{"), inside, g.Exactly("}"))))
        return options[0] if len(options) == 1 else g.OneOf(tuple(options or [g.Exactly("null")]))


def _times(schema: Schema) -> str:
    """How many characters a string may have, as a count in a regular expression."""
    low, high = schema.node.get("minLength") or 0, schema.node.get("maxLength")
    return f"{{{low},{'' if high is None else high}}}" if low or high is not None else "*"
