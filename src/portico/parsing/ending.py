"""Where a value ends that the wire carries as text: at its closer, or, where that is missing, at what follows it.

A closer may be lost, doubled or damaged, and a value may hold the text of any marker. So every marker inside a value is
judged by what follows it: it closes the value, it is text, it can only be structure (then the value ended in front of
it), or it may be. From there on the text is held, until a real closer shows that it was text, or the end of the answer
that it was not.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from portico.parsing.tape import Look, Markers, Tape, until

__all__ = ["Ends", "Judge", "Verdict", "text_value"]


class Verdict(Enum):
    """What a marker inside a value is; also how a value ended (``CLOSES``, ``STRUCTURE``, or ``CUT``)."""

    CLOSES = 1
    TEXT = 2
    STRUCTURE = 3
    PERHAPS = 4
    CUT = 5


Judge: TypeAlias = "Callable[[str], Generator[None, None, Verdict]]"


def text_value(
    tape: Tape, pass_on: Callable[[str], None], wanted: Markers, judge: Judge
) -> Generator[None, None, Verdict]:
    """Pass on the text of a value. ``judge`` gets the spelling of every marker of ``wanted`` and looks ahead; it may
    change ``tape.matched``, which is passed on for a marker that is text.

    ``CLOSES``: its closer is consumed. ``STRUCTURE``: it is missing, what follows is not consumed. ``CUT``: the text
    ended inside the value.
    """
    held: list[tuple[str, str]] | None = None  # pieces as they were read, and as they are to be passed on

    def hold(text: str) -> None:
        if held is not None:
            held.append((text, text))

    while True:
        found = yield from until(tape, wanted, pass_on if held is None else hold)
        if not found:
            if held is None:
                return Verdict.CUT
            tape.back("".join(raw for raw, _ in held))
            return Verdict.STRUCTURE
        matched = tape.matched
        verdict = yield from judge(found)
        if verdict is Verdict.CLOSES:
            if held:
                pass_on("".join(text for _, text in held))
            return verdict
        if verdict is Verdict.STRUCTURE:
            tape.back("".join(raw for raw, _ in held or ()) + matched)
            return verdict
        if verdict is Verdict.PERHAPS and held is None:
            held = []
        if held is None:
            pass_on(tape.matched)
        else:
            held.append((matched, tape.matched))


@dataclass(frozen=True)
class Ends:
    """What may stand behind a call's arguments.

    ``marks``: closers of the call and its section, openers of another. ``heads``: the literals from there to the name
    of the next call.
    """

    marks: Markers
    heads: tuple[Markers, ...] = ()

    def surely(self, tape: Tape, names: Markers, final: Markers) -> Generator[None, None, bool]:
        """Whether the mark just found can only be structure: what follows is the end of the answer, perhaps behind
        ``final``, a call of one of these names, or more marks and then that."""
        matched = tape.matched
        tape.back(matched)
        sure = yield from self.follow(Look(tape), names, final)
        tape.take(tape.at + len(matched))
        return sure

    def follow(self, look: Look, names: Markers, final: Markers) -> Generator[None, None, bool]:
        """The same of what comes next."""
        for _ in range(_CHAIN):
            if (
                not (yield from look.space())
                or (yield from look.marker(final))
                or (self.heads and (yield from self._call(look, names)))
            ):
                return True
            if not (yield from look.marker(self.marks)):
                break
        return False

    def _call(self, look: Look, names: Markers) -> Generator[None, None, bool]:
        ahead = look.copy()
        some = False
        for marks in self.heads:
            some = bool((yield from ahead.marker(marks))) or some
        return some and bool((yield from ahead.marker(names)))


_CHAIN = 8
