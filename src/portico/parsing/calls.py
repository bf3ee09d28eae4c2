"""How tool calls stand in a model's text: the framing around them.

``Calls`` is a section, a list, a tag around each call, separators; each may be missing. Its ``body`` is one call
(``bodies``). Together with an argument codec they describe every family that writes its calls into the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

from portico import grammar as g
from portico.events import ToolCall
from portico.parsing.ending import Ends
from portico.parsing.json_text import Done
from portico.parsing.machine import Machine, proper
from portico.parsing.neighbours import neighbour
from portico.parsing.schema import Schema
from portico.parsing.strays import SHORTEST, litter, noise, nothing
from portico.parsing.tape import Look, Markers, comes, markers, peek, sequence, space
from portico.parsing.unmarked import is_closed, is_line
from portico.parsing.wire import BLANK, Words, almost, first, literals, unslashed

__all__ = ["Body", "Calls"]

_TAG = re.compile(r"<\w+>")
_REREAD = 128  # characters behind another family's opener that are read again when it was none
_NOISE = 256  # characters of text that may stand between a section's opener and its first call
_NOISE_IN_TAG = 48  # and between the opener of a call and its header


class Body(Hashable, Protocol):
    """One call."""

    @property
    def openers(self) -> tuple[str, ...]:
        """Literals that a call begins with; none where it begins with its name."""
        ...

    @property
    def firsts(self) -> tuple[str, ...]:
        """With what a call begins behind text that is no part of it."""
        ...

    @property
    def closers(self) -> tuple[str, ...]: ...

    def read(self, m: Machine, calls: Calls) -> Done:
        """Read one call. False (and nothing committed) if this is none."""
        ...

    def starts(self, m: Machine, look: Look, calls: Calls) -> Done:
        """Whether a call of a declared tool comes, as far as its header shows; False where a marker begins it."""
        ...

    @property
    def heads(self) -> tuple[Markers, ...]:
        """The literals in front of a call's name."""
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

    ``bare``: the outermost opener may be missing. Where it may not, a call without it is still one if its tool
    is declared; so is one whose body is in the dialect of a neighbour. ``plain``: the opener is ordinary text
    (a bracket), so that, behind other text, only a call of a declared tool is believed. ``lines``: there is no opener;
    a line that is a call of a declared tool and nothing else is one. ``in_thought``: a call written inside an open
    thought ends it (almost everywhere; a few families think aloud about calls they do not make). ``id``: the id of a
    call whose wire has none, from its index and name.
    """

    body: Body
    open: Words = ""
    close: Words = ""
    section: Words = ""
    section_close: Words = ""
    list: tuple[str, str, str] = ("", "", "")  # opener, separator, closer
    bare: bool = False
    plain: bool = False
    lines: bool = False
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

    @cached_property
    def inner(self) -> tuple[str, ...]:
        """Further literals at which a call of a declared tool may begin: those of a section or a tag that was lost."""
        every = sum(self._levels[1:], ())
        return tuple(dict.fromkeys(o for o in every if len(o) > SHORTEST and o not in self.openers))

    def within(self, m: Machine) -> tuple[str, ...]:
        """What calls may begin with behind another family's opener."""
        names = () if self.body.openers else m.tools
        return tuple(o for o in (*sum(self._levels, ()), *names) if len(o) >= SHORTEST)

    @property
    def opener(self) -> str:
        """The marker with which calls begin as they are written."""
        every = (first(self.section), self.list[0], first(self.open), *self.body.openers)
        return next((text.rstrip(BLANK) for text in every if text.strip(BLANK)), "")

    @cached_property
    def closers(self) -> tuple[str, ...]:
        """The literals that may end a call or the section: markup wherever they stand behind a call."""
        every = (*self.body.closers, *literals(self.close), *literals(self.section_close))
        every = every or tuple(opener.replace("<", "</", 1) for opener in self.openers if _TAG.fullmatch(opener))
        return tuple(dict.fromkeys(c for c in every if len(c) > 1))

    @cached_property
    def _own(self) -> Markers:
        return markers(*self.openers, *self.inner, *self.closers)

    @cached_property
    def ends(self) -> Ends:
        """What ends a call's arguments when it stands where they may end."""
        return self.ends_of(self.body)

    def ends_of(self, body: Body) -> Ends:
        """The same for a call with this body."""
        return _ends(self, body)

    @cached_property
    def _marks(self) -> dict[str, Markers]:
        words = {"section": self.section, "open": self.open, "close": self.close, "section_close": self.section_close}
        found = {name: markers(*literals(word)) for name, word in words.items()}
        found |= {name: markers(*literals(word)) for name, word in zip(("[", ",", "]"), self.list, strict=True)}
        return found

    def read(self, m: Machine, foreign: bool = False, behind: str = "") -> Generator[None, None, None]:
        """Read calls from an opener on; what is no call is given back as text. ``foreign``: it is not this family's
        model that writes. ``behind``: another family's opener, which stood in place of this one's."""
        tape, marks = m.tape, self._marks
        m.suspect(behind)
        before = m.calls
        if self.lines and not (yield from is_line(m)):
            tape.take(tape.at + 1)
            m.false_alarm()
            return
        outer = yield from self._repeated(m, marks["section"])
        strange = yield from comes(tape, m.structure, take=False)  # it may begin as the list does
        inner = "" if strange else (yield from comes(tape, marks["["]))
        if not inner and outer + first(self.open) and (yield from sequence(tape, (markers("["), markers("{")))):
            inner = yield from comes(tape, markers("["))
        listed = bool(inner) or not literals(self.list[0]) or (self.bare and self._levels[0] == literals(self.list[0]))
        m.wary = foreign or not (listed and (outer or self.bare or not literals(self.section)))
        room = 0 if foreign else _NOISE if outer else _NOISE_IN_TAG
        framed: str | None = None  # the openers of the next call
        while True:
            opened = yield from self._repeated(m, marks["open"])
            if literals(self.open) and not opened and not (self.bare and self._levels[0] == literals(self.open)):
                m.wary = True
            if not inner and opened and not literals(self.list[0]):
                inner = "[" if (yield from sequence(tape, (markers("["), markers("{")))) else ""
                yield from comes(tape, markers("[")) if inner else ()
            framed = "".join(tape.kept or ()) if framed is None else framed
            if not (yield from self._one(m)):
                if tape.kept is not None and framed.strip():
                    room = yield from noise(
                        m, framed, room, self._firsts(m), (*self.openers, *self.inner), self.closers
                    )
                    if room:
                        inner = inner or (yield from comes(tape, marks["["]))
                        continue
                break
            room, framed = 0 if foreign else _NOISE_IN_TAG, None
            closer = self.list[2].strip() or ("]" if inner else "")
            yield from litter(m, closer, (*self.ends.marks.spellings, *(self.body.openers if closer else ())))
            yield from comes(tape, marks["close"])
            yield from comes(tape, marks[","] if literals(self.list[1]) or not inner else markers(","))
            if not (yield from self._another(m, inner)):
                break
            m.suspect()
        m.wary = False
        if tape.kept is not None:
            yield from self._no_call(m, foreign, behind)
        elif m.calls > before:
            yield from comes(tape, markers("]") if inner else marks["]"])
            yield from comes(tape, marks["close"])
            yield from comes(tape, marks["section_close"])

    def _no_call(self, m: Machine, foreign: bool, behind: str) -> Generator[None, None, None]:
        """What was suspected is none: it is text, or markup with nothing in it."""
        tape = m.tape
        openers = (*self.openers, *self.inner)
        if not any(tape.kept or ()):  # the opener at least is consumed, or it would be found again
            yield from comes(tape, markers(*openers))
        if not any(tape.kept or ()) and (yield from peek(tape)):
            tape.take(tape.at + 1)
        text = "".join(tape.kept or ())
        if (yield from nothing(m, text.removeprefix(behind), openers, self.closers)):
            tape.commit()
            m.recovered("a marker with nothing in it")
            m.frame()
        elif foreign and len(text) < _REREAD:
            marker = next((opener for opener in openers if text.startswith(opener)), text)
            tape.release()
            tape.back(text[len(marker) :])
            m.write(marker)
        else:
            m.false_alarm()

    def _one(self, m: Machine) -> Done:
        """One call: as the family writes it, or as a neighbour does."""
        other = yield from neighbour(m, self.body)
        if other is None:
            return (yield from self.body.read(m, self))
        m.wary = True
        before = m.calls
        done = yield from other.read(m, self)
        if m.calls > before:
            m.recovered("a call as another family writes it")
        return done

    def _repeated(self, m: Machine, marks: Markers) -> Generator[None, None, str]:
        """One of these markers; written twice it counts once, even if a character of it is wrong then."""
        found = yield from comes(m.tape, marks)
        again = found
        while again:
            again = yield from comes(m.tape, marks)
            if not again and not (yield from comes(m.tape, self._own, take=False)):
                again = found if (yield from almost(m.tape, found)) else ""
            if again:
                m.recovered("a marker twice")
        return found

    def _firsts(self, m: Machine) -> frozenset[str]:
        """What begins a call behind text that is no part of it."""
        begin = (*literals(self.open), *self.inner, *self.body.firsts)
        listed = "" if self.body.openers else self.list[0].strip(BLANK)
        return frozenset(o for o in (*begin, *(listed + name for name in m.tools)) if len(o) > SHORTEST)

    def _another(self, m: Machine, listed: str) -> Done:
        """Whether another call follows inside the same framing."""
        if listed and not literals(self.list[0]):
            return bool((yield from comes(m.tape, markers("{"), take=False)))
        levels = [level for level in (literals(self.open), self.body.openers) if level]
        if not levels:  # the body begins with its name
            if (yield from comes(m.tape, markers(*literals(self.list[2]), *literals(self.section_close)), take=False)):
                return False
            if (yield from comes(m.tape, m.final, take=False)) or (yield from comes(m.tape, m.structure, take=False)):
                return False
            return bool(self.list[0].strip() or literals(self.section)) and bool((yield from space(m.tape)))
        wanted = levels[0] if not self.bare else sum(levels, ())
        return bool((yield from comes(m.tape, markers(*wanted), take=False)))

    def begins(self, m: Machine) -> Done:
        """Whether all the literals in front of the first call come; looks without consuming."""
        levels = [markers(*level) for level in self._levels]
        return (yield from sequence(m.tape, levels)) or (self.bare and (yield from sequence(m.tape, levels[1:])))

    @cached_property
    def objects(self) -> tuple[str, ...]:
        """With what an object begins, inside a text, that may be a call whose opener is lost."""
        firsts = self.body.firsts if self.body.openers == ("{",) and not self.plain else ()
        return (*firsts, *(f"[{first}" for first in firsts))

    def read_unmarked(self, m: Machine, first: bool) -> Done:
        """Read calls whose opener is lost; whether some come. ``first``: the answer has said nothing yet."""
        if self.plain or self.lines:
            return False
        look = Look(m.tape)
        yield from look.marker(markers("["))
        if not (yield from self.body.starts(m, look, self)):
            return False
        if not first and not (yield from is_closed(m, self.own_closers)):
            return False
        m.recovered("a call without its opener")
        yield from self.read(m, foreign=True)
        return True

    @property
    def own_closers(self) -> tuple[str, ...]:
        """The closers that no other text has."""
        return tuple(closer for closer in self.closers if "`" not in closer)

    def believes(self, m: Machine, name: str) -> bool:
        """Whether a call of this name is one, here. Recoveries, and names no tool would have, want a declared one."""
        if name in m.tools:
            return bool(name)
        return bool(name) and not m.wary and not self.lines and not (self.plain and m.voice.said) and proper(name)

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


@lru_cache(maxsize=512)
def _ends(calls: Calls, body: Body) -> Ends:
    openers = (*literals(calls.section), *literals(calls.open), *(o for o in body.openers if len(o) > SHORTEST))
    closers = (*body.closers, *calls.body.closers, *literals(calls.close), *literals(calls.section_close))
    heads = (markers(*literals(calls.section)), markers(*literals(calls.list[0])), markers(*literals(calls.open)))
    slashless = (unslashed(closer) for closer in (*body.closers, *calls.body.closers) if "/" in closer)
    return Ends(markers(*closers, *slashless, *(o for o in openers if len(o) > 1)), (*heads, *body.heads))


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
