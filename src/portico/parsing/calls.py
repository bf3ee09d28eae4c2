"""How tool calls stand in a model's text: the framing around them, and the shapes of one call.

``Calls`` is the framing: a section, a list, a tag around each call, separators; each may be missing. Its ``body`` is
one call: a JSON object (``JsonObject``), an object whose only key is the name (``SingleKey``), or a header that holds
the name in front of the arguments (``Headed``). Together with an argument codec they describe every family that
writes its calls into the answer; each piece reads, writes and gives its grammar.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

from portico import grammar as g
from portico.events import ToolCall
from portico.parsing.arguments import Codec, Keyword, read_json
from portico.parsing.literals import DEPTH, Dialect, Done, json_value, literal
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema, quoted
from portico.parsing.tape import Markers, comes, markers, peek, sequence, space
from portico.parsing.wire import BLANK, cores, fill, fill_in, parts, plain

__all__ = ["Body", "Calls", "Either", "Headed", "JsonObject", "SingleKey"]

Words = str | tuple[str, ...]


def _cores(words: Words) -> tuple[str, ...]:
    return tuple(w.strip(BLANK) for w in ((words,) if isinstance(words, str) else words) if w.strip(BLANK))


def _first(words: Words) -> str:
    return plain(words if isinstance(words, str) else words[0])


class Body(Protocol):
    """One call."""

    @property
    def openers(self) -> tuple[str, ...]:
        """Literals that a call begins with; none where it begins with its name."""
        ...

    @property
    def closers(self) -> tuple[str, ...]: ...

    def read(self, m: Machine, calls: Calls) -> Done:
        """Read one call. False (and nothing committed) if this is none."""
        ...

    @property
    def trailing(self) -> str:
        """White space at the end of what ``write`` gives."""
        ...

    def write(self, call: ToolCall, index: int, schema: Schema | None) -> str: ...

    def grammar(self, tool: g.Tool, schema: Schema) -> tuple[g.Grammar, ...]:
        """One call of this tool, without the white space at its end."""
        ...


@dataclass(frozen=True)
class Calls:
    """The framing of calls.

    Alternatives are tuples, the written one first; white space in them is written, not required.

    ``bare``: the outermost opener may be missing. ``plain``: the opener is ordinary text (a bracket), so that, behind
    other text, only a call of a declared tool is believed. ``in_thought``: a call written inside an open thought ends
    it (almost everywhere; a few families think aloud about calls they do not make). ``id``: the id of a call whose
    wire has none, from its index and name.
    """

    body: Body
    open: Words = ""
    close: Words = ""
    section: Words = ""
    section_close: Words = ""
    list: tuple[str, str, str] = ("", "", "")  # opener, separator, closer
    bare: bool = False
    plain: bool = False
    in_thought: bool = True
    id: Callable[[int, str], str] | None = None

    @cached_property
    def _levels(self) -> tuple[tuple[str, ...], ...]:
        levels = (_cores(self.section), _cores(self.list[0]), _cores(self.open), self.body.openers)
        return tuple(level for level in levels if level)

    @cached_property
    def openers(self) -> tuple[str, ...]:
        """The literals at which calls may begin."""
        return tuple(dict.fromkeys(sum(self._levels[: 2 if self.bare else 1], ())))

    @property
    def opener(self) -> str:
        """The marker with which calls begin as they are written."""
        every = (_first(self.section), self.list[0], _first(self.open), *self.body.openers)
        return next((text.rstrip(BLANK) for text in every if text.strip(BLANK)), "")

    @cached_property
    def closers(self) -> tuple[str, ...]:
        """The literals that may end a call or the section: markup wherever they stand behind a call."""
        every = (*self.body.closers, *_cores(self.close), *_cores(self.section_close))
        return tuple(dict.fromkeys(c for c in every if len(c) > 1))

    @cached_property
    def enders(self) -> Markers:
        """What ends a call's arguments when it stands where they may end."""
        openers = (o for o in (*_cores(self.section), *_cores(self.open)) if len(o) > 1)
        return markers(*self.body.closers, *_cores(self.close), *_cores(self.section_close), *openers)

    @cached_property
    def _marks(self) -> dict[str, Markers]:
        words = {"section": self.section, "open": self.open, "close": self.close, "section_close": self.section_close}
        found = {name: markers(*_cores(word)) for name, word in words.items()}
        found |= {name: markers(*_cores(word)) for name, word in zip(("[", ",", "]"), self.list, strict=True)}
        found["body"] = markers(*self.body.openers)
        return found

    def read(self, m: Machine) -> Generator[None, None, None]:
        """Read calls from an opener on; what is no call is given back as text."""
        tape, marks = m.tape, self._marks
        m.suspect()
        before = m.calls
        outer = yield from comes(tape, marks["section"])
        inner = yield from comes(tape, marks["["])
        listed = bool(inner) or not _cores(self.list[0]) or (self.bare and self._levels[0] == _cores(self.list[0]))
        fits = listed and bool(outer or self.bare or not _cores(self.section))
        while fits:
            opened = yield from comes(tape, marks["open"])
            needed = _cores(self.open) and not (self.bare and self._levels[0] == _cores(self.open))
            if (needed and not opened) or not (yield from self.body.read(m, self)):
                break
            yield from comes(tape, marks["close"])
            yield from comes(tape, marks[","])
            if not (yield from self._another(m)):
                break
            m.suspect()
        if tape.kept is not None:
            if not any(tape.kept):  # the opener at least is consumed, or it would be found again
                yield from comes(tape, markers(*self.openers))
            m.false_alarm()
            return
        if m.calls > before:
            yield from comes(tape, marks["]"])
            yield from comes(tape, marks["section_close"])

    def _another(self, m: Machine) -> Done:
        """Whether another call follows inside the same framing."""
        levels = [level for level in (_cores(self.open), self.body.openers) if level]
        if not levels:  # the body begins with its name
            if (yield from comes(m.tape, markers(*_cores(self.list[2]), *_cores(self.section_close)), take=False)):
                return False
            return bool(self.list[0].strip() or _cores(self.section)) and bool((yield from space(m.tape)))
        wanted = levels[0] if not self.bare else sum(levels, ())
        return bool((yield from comes(m.tape, markers(*wanted), take=False)))

    def begins(self, m: Machine) -> Done:
        """Whether all the literals in front of the first call come; looks without consuming."""
        levels = [markers(*level) for level in self._levels]
        return (yield from sequence(m.tape, levels)) or (self.bare and (yield from sequence(m.tape, levels[1:])))

    def believes(self, m: Machine, name: str) -> bool:
        """Whether a call of this name is one, here."""
        return bool(name) and (not self.plain or name in m.tools or not m.voice.said)

    def write(self, calls: Sequence[ToolCall], tools: dict[str, Schema]) -> str:
        before, close, between, after = self._around
        bodies = [self.body.write(call, index, tools.get(call.name)) for index, call in enumerate(calls)]
        written = between.join(f"{_first(self.open)}{body.removesuffix(self.body.trailing)}{close}" for body in bodies)
        return f"{before}{written}{after}"

    @cached_property
    def _around(self) -> tuple[str, str, str, str]:
        """What is written before the first call's opener, after each call's body, between calls, and at the end.

        White space that ends a call is written only where something follows.
        """
        close = self.body.trailing + _first(self.close)
        after = f"{self.list[2]}{_first(self.section_close)}"
        before = f"{_first(self.section)}{self.list[0]}"
        if after:
            return before, close, self.list[1], after
        bare = close.rstrip(BLANK)
        return before, bare, close[len(bare) :] + self.list[1], after

    def grammar(self, tools: Sequence[g.Tool], high: int | None = None) -> g.Grammar:
        """One to ``high`` calls of any of these tools (None: any number), exactly as they are written."""
        before, close, between, after = self._around
        each = g.OneOf(
            tuple(
                _joined(
                    g.Exactly(_first(self.open)),
                    *self.body.grammar(tool, Schema(tool.arguments.schema)),
                    g.Exactly(close),
                )
                for tool in tools
            )
        )
        calls = g.Repeated(each, 1, high, between)
        return _joined(g.Exactly(before), calls, g.Exactly(after))


def _joined(*parts: g.Grammar) -> g.Chain:
    """Parts one after the other, literals that meet made one, so that no literal begins another's text."""
    found: list[g.Grammar] = []
    for part in parts:
        if isinstance(part, g.Exactly):
            if not part.text:
                continue
            last = found[-1] if found else None
            if isinstance(last, g.Exactly):
                found[-1] = g.Exactly(last.text + part.text)
                continue
        found.append(part)
    return g.Chain(tuple(found))


@dataclass(frozen=True)
class Either:
    """A format with several shapes behind the same opener: the first one whose literals come is read.

    The last shape is the family's own: it is taken where no other fits, and written.
    """

    shapes: tuple[Calls, ...]

    @cached_property
    def openers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(o for shape in self.shapes for o in shape.openers))

    @cached_property
    def closers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c for shape in self.shapes for c in shape.closers))

    @cached_property
    def enders(self) -> Markers:
        return markers(*sorted(e for shape in self.shapes for e in shape.enders.spellings))

    @property
    def id(self) -> Callable[[int, str], str] | None:
        return self.shapes[-1].id

    @property
    def in_thought(self) -> bool:
        return self.shapes[-1].in_thought

    def read(self, m: Machine) -> Generator[None, None, None]:
        for shape in self.shapes[:-1]:
            if (yield from shape.begins(m)):
                return (yield from shape.read(m))
        return (yield from self.shapes[-1].read(m))

    def write(self, calls: Sequence[ToolCall], tools: dict[str, Schema]) -> str:
        return self.shapes[-1].write(calls, tools)

    @property
    def opener(self) -> str:
        return self.shapes[-1].opener

    def grammar(self, tools: Sequence[g.Tool], high: int | None = None) -> g.Grammar:
        return self.shapes[-1].grammar(tools, high)


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
        return _cores(self.close)

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
