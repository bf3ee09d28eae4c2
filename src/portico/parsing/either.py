"""A format with several shapes behind the same opener."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property

from portico import grammar as g
from portico.events import ToolCall
from portico.parsing.calls import Calls
from portico.parsing.ending import Ends
from portico.parsing.json_text import Done
from portico.parsing.machine import Machine
from portico.parsing.schema import Schema
from portico.parsing.tape import markers

__all__ = ["Either"]


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
    def inner(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(o for shape in self.shapes for o in shape.inner if o not in self.openers))

    def within(self, m: Machine) -> tuple[str, ...]:
        return tuple(dict.fromkeys(o for shape in self.shapes for o in shape.within(m)))

    @cached_property
    def ends(self) -> Ends:
        return Ends(markers(*sorted(e for shape in self.shapes for e in shape.ends.marks.spellings)))

    @property
    def id(self) -> Callable[[int, str], str] | None:
        return self.shapes[-1].id

    @property
    def in_thought(self) -> bool:
        return self.shapes[-1].in_thought

    @property
    def lines(self) -> bool:
        return self.shapes[-1].lines

    def read(self, m: Machine, foreign: bool = False, behind: str = "") -> Generator[None, None, None]:
        for shape in self.shapes[:-1]:
            if (yield from shape.begins(m)):
                return (yield from shape.read(m, foreign, behind))
        return (yield from self.shapes[-1].read(m, foreign, behind))

    @cached_property
    def objects(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(o for shape in self.shapes for o in shape.objects))

    def read_unmarked(self, m: Machine, first: bool) -> Done:
        for shape in self.shapes:
            if (yield from shape.read_unmarked(m, first)):
                return True
        return False

    def write(self, calls: Sequence[ToolCall], tools: dict[str, Schema]) -> str:
        return self.shapes[-1].write(calls, tools)

    @property
    def opener(self) -> str:
        return self.shapes[-1].opener

    def grammar(self, tools: Sequence[g.Tool], high: int | None = None) -> g.Grammar:
        return self.shapes[-1].grammar(tools, high)
