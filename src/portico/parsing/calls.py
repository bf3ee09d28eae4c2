"""How tool calls stand in a model's text: the framing around them.

``Calls`` is a section, a list, a tag around each call, separators; each may be missing. Its ``body`` is one call
(``bodies``). Together with an argument codec they describe every family that writes its calls into the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from portico import grammar as g
from portico.events import ToolCall
from portico.parsing.json_text import Done
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import Markers, comes, markers, sequence, space
from portico.parsing.wire import BLANK, Words, first, literals

__all__ = ["Body", "Calls", "Either"]


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
        levels = (literals(self.section), literals(self.list[0]), literals(self.open), self.body.openers)
        return tuple(level for level in levels if level)

    @cached_property
    def openers(self) -> tuple[str, ...]:
        """The literals at which calls may begin."""
        return tuple(dict.fromkeys(sum(self._levels[: 2 if self.bare else 1], ())))

    @property
    def opener(self) -> str:
        """The marker with which calls begin as they are written."""
        every = (first(self.section), self.list[0], first(self.open), *self.body.openers)
        return next((text.rstrip(BLANK) for text in every if text.strip(BLANK)), "")

    @cached_property
    def closers(self) -> tuple[str, ...]:
        """The literals that may end a call or the section: markup wherever they stand behind a call."""
        every = (*self.body.closers, *literals(self.close), *literals(self.section_close))
        return tuple(dict.fromkeys(c for c in every if len(c) > 1))

    @cached_property
    def enders(self) -> Markers:
        """What ends a call's arguments when it stands where they may end."""
        openers = (o for o in (*literals(self.section), *literals(self.open)) if len(o) > 1)
        return markers(*self.body.closers, *literals(self.close), *literals(self.section_close), *openers)

    @cached_property
    def _marks(self) -> dict[str, Markers]:
        words = {"section": self.section, "open": self.open, "close": self.close, "section_close": self.section_close}
        found = {name: markers(*literals(word)) for name, word in words.items()}
        found |= {name: markers(*literals(word)) for name, word in zip(("[", ",", "]"), self.list, strict=True)}
        return found

    def read(self, m: Machine) -> Generator[None, None, None]:
        """Read calls from an opener on; what is no call is given back as text."""
        tape, marks = m.tape, self._marks
        m.suspect()
        before = m.calls
        outer = yield from comes(tape, marks["section"])
        inner = yield from comes(tape, marks["["])
        listed = bool(inner) or not literals(self.list[0]) or (self.bare and self._levels[0] == literals(self.list[0]))
        fits = listed and bool(outer or self.bare or not literals(self.section))
        while fits:
            opened = yield from comes(tape, marks["open"])
            needed = literals(self.open) and not (self.bare and self._levels[0] == literals(self.open))
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
        levels = [level for level in (literals(self.open), self.body.openers) if level]
        if not levels:  # the body begins with its name
            if (yield from comes(m.tape, markers(*literals(self.list[2]), *literals(self.section_close)), take=False)):
                return False
            return bool(self.list[0].strip() or literals(self.section)) and bool((yield from space(m.tape)))
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
        written = between.join(f"{first(self.open)}{body.removesuffix(self.body.trailing)}{close}" for body in bodies)
        return f"{before}{written}{after}"

    @cached_property
    def _around(self) -> tuple[str, str, str, str]:
        """What is written before the first call's opener, after each call's body, between calls, and at the end.

        White space that ends a call is written only where something follows.
        """
        close = self.body.trailing + first(self.close)
        after = f"{self.list[2]}{first(self.section_close)}"
        before = f"{first(self.section)}{self.list[0]}"
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
                    g.Exactly(first(self.open)),
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
