"""Argument codecs: how the arguments of one call are coded on the wire, and their JSON text.

Each codec reads (incrementally, giving the machine JSON text as soon as it is decided), writes and describes itself as
a grammar. ``read`` starts behind the call's header and is told which markers may end the arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from portico import grammar as g
from portico.parsing.literals import Dialect, Done, json_value, literal
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema, as_json, escaped, quoted
from portico.parsing.tape import Markers, Tape, comes, markers, peek, space, until
from portico.parsing.wire import BLANK, Literal, cores, fill, fill_in, parts, split_at

__all__ = ["Codec", "Json", "Keyword", "Tagged", "Unwritable", "read_json", "text_of"]


class Unwritable(ValueError):
    """A call that the format has no way to write."""


class Codec(Protocol):
    @property
    def openers(self) -> tuple[str, ...]:
        """Literals that the arguments may begin with; they end a name written in front of them."""
        ...

    def begins(self, tape: Tape, enders: Markers) -> Done:
        """Whether what comes next can be such arguments; looks without consuming."""
        ...

    def read(self, m: Machine, schema: Schema | None, enders: Markers) -> Done:
        """Give the machine the arguments. True if they are complete."""
        ...

    def write(self, arguments: str, schema: Schema | None) -> str:
        """The wire text of arguments given as JSON text."""
        ...

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        """The wire text of any arguments that the schema accepts."""
        ...


def read_json(m: Machine, emit: Any, enders: Markers) -> Done:
    """JSON arguments: an object passed through as it is; null is {}, and an object inside a string is unwrapped."""
    char = yield from space(m.tape)
    if char == '"':
        pieces: list[str] = []
        done = yield from json_value(m.tape, pieces.append, enders)
        emit(_unwrapped("".join(pieces)))
        return done
    if char == "n":
        pieces = []
        done = yield from json_value(m.tape, pieces.append, enders)
        word = "".join(pieces)
        emit("{}" if word == "null" else word)
        return done
    if (yield from comes(m.tape, enders, take=False)):
        return True  # no arguments at all
    return (yield from json_value(m.tape, emit, enders))


def _unwrapped(text: str) -> str:
    try:
        inside = json.loads(text)
        if isinstance(json.loads(inside), dict):
            return str(inside)
    except (ValueError, RecursionError):
        pass
    return text


@dataclass(frozen=True)
class Json:
    """The arguments are a JSON object."""

    openers: tuple[str, ...] = ("{",)

    def begins(self, tape: Tape, enders: Markers) -> Done:
        return bool((yield from comes(tape, markers("{", '"', "null", *enders.spellings), take=False)))

    def read(self, m: Machine, schema: Schema | None, enders: Markers) -> Done:
        return (yield from read_json(m, m.arguments, enders))

    def write(self, arguments: str, schema: Schema | None) -> str:
        return arguments

    def grammar(self, arguments: g.Json, schema: Schema) -> tuple[g.Grammar, ...]:
        return (arguments,)


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
        good = yield from literal(tape, pass_on, _EITHER, None)
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
                text = before * text.startswith(BLANK_ENDS) + text + after * text.endswith(BLANK_ENDS)
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


def text_of(member: Schema, arguments: g.Json, stop: str) -> tuple[g.Grammar, ...]:
    """A value as bare text, and the ``stop`` behind it."""
    choices = member.node.get("enum") or ([member.node["const"]] if "const" in member.node else [])
    if choices and all(isinstance(choice, str) for choice in choices):
        return g.OneOf(tuple(map(g.Exactly, choices))), g.Exactly(stop)
    if member.types and "string" not in member.types:
        return member.as_json(arguments), g.Exactly(stop)
    if isinstance(pattern := member.node.get("pattern"), str) and pattern[:1] == "^" and pattern[-1:] == "$":
        return g.Pattern(pattern[1:-1], arguments.param), g.Exactly(stop)
    return (g.Until((stop,)),)


BLANK_ENDS = ("\n", "\r")


_SETTLED = 16  # characters of an object that read well before it is believed and streamed
_EITHER = Dialect(('"""', "'''", '"', "'"), escapes=True, tuples=True)


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
        return declared if declared is not None and "string" not in declared.types else _JSON
    named = holes.get("type")
    return Schema({"type": named}) if named else declared


_STRING = Schema({"type": "string"})
_JSON = None


def _object_or_none(text: str) -> str | None:
    return text if text[:1] == "{" else None


# keyword arguments of Python, and the braces of the Gemma family


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

    def begins(self, tape: Tape, enders: Markers) -> Done:
        while True:
            text = tape.text[tape.at : tape.at + _LOOK]
            if self._begin.match(text):
                return True
            if tape.ended or len(text) == _LOOK or not self._may_begin.match(text):
                return False
            yield

    @cached_property
    def _begin(self) -> re.Pattern[str]:
        key = r"""[\w.\-$]{1,128}|"[^"\n]{1,128}"|<[^>]{1,16}>[^<]{1,128}<[^>]{1,16}>"""
        opened = "|".join(rf"\{pair[0]}\s*(?:\{pair[1]}|(?:{key})\s*{self.sign})" for pair in self.brackets)
        return re.compile(rf"\s*(?:{opened})")

    @cached_property
    def _may_begin(self) -> re.Pattern[str]:
        key = r"""[\w.\-$]{0,128}|"[^"\n]{0,128}"?|<[^>]{0,16}(?:>[^<]{0,128}(?:<[^>]{0,16}>?)?)?"""
        opened = "|".join(rf"\{opener}\s*(?:{key})\s*" for opener in self.openers)
        return re.compile(rf"\s*(?:{opened})?\Z")

    def read(self, m: Machine, schema: Schema | None, enders: Markers) -> Done:
        tape = m.tape
        opener = yield from comes(tape, markers(*self.openers))
        if not opener:
            return False
        closer = markers(next(pair[1] for pair in self.brackets if pair[0] == opener))
        separator = "{"
        while True:
            if (yield from comes(tape, closer)):
                m.arguments("{}" if separator == "{" else "}")
                return True
            key = yield from self._key(tape)
            if key is None:
                return False
            m.arguments(f"{separator}{quoted(key)}: ")
            separator = ", "
            yield from space(tape)
            member = schema.member(key) if schema is not None and self.typed else None
            if not (yield from literal(tape, m.arguments, self.dialect, member)):
                return False
            if not (yield from comes(tape, markers(","))) and not (yield from comes(tape, closer, take=False)):
                return False

    def _key(self, tape: Tape) -> Generator[None, None, str | None]:
        quote = (yield from comes(tape, markers(*self.dialect.quotes))) if self.typed else ""
        if quote:
            pieces: list[str] = []
            if not (yield from until(tape, markers(quote), pieces.append)):
                return None
            return "".join(pieces) if (yield from comes(tape, markers(self.sign))) else None
        holes: dict[str, str] = {}
        done = yield from fill(tape, parts(f"{{key}}{self.sign}"), holes)
        return holes["key"] if done and holes["key"] else None

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
        alone = len(schema.types) == 1
        python = self.dialect.escapes
        options: list[g.Grammar] = []
        for kind in sorted(kinds):
            if kind == "string":
                if not python:
                    options.append(g.Chain((g.Exactly(self.quote), g.Until((self.quote,)))))
                elif self.quote == "'":
                    options.append(g.Pattern(r"'([^'\\\x00-\x1f]|\\['\\nrt])*'"))
                else:
                    options.append(schema.as_json(arguments) if alone else g.Json({"type": "string"}, arguments.param))
            elif kind in ("integer", "number"):
                options.append(schema.as_json(arguments) if alone else g.Json({"type": kind}, arguments.param))
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


DEPTH_OF_GRAMMAR = 8  # objects and arrays inside each other, where the syntax is not JSON
_LOOK = 640
_PLAIN = re.compile(r"[^\W\d][\w.\-$]{0,127}")
