"""Calls that have no marker at all: a line that is a call of a declared tool and nothing else.

    get_weather(city="Oslo", days=3)

The same words may begin a sentence about the call, so the line is looked over before the call is believed, as far as
it is short; a longer one is a call by its beginning.
"""

from __future__ import annotations

from portico.parsing.json_text import Done
from portico.parsing.machine import Machine
from portico.parsing.tape import Look

__all__ = ["is_line"]

_LONGEST = 256  # characters that are looked over
_CLOSERS = frozenset(")]}")


def is_line(m: Machine) -> Done:
    """Whether the brackets that follow are all of the line; the end of the answer ends it, wherever it stands."""
    look = Look(m.tape)
    quote, depth = "", 0
    for _ in range(_LONGEST):
        char = yield from look.char()
        if not char:
            return True
        look.skip()
        if quote:
            if char == "\\":
                look.skip()
            elif char == quote and (yield from look.copy().space()) in (*_CLOSERS, ",", ":", ""):
                quote = ""
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in _CLOSERS:
            depth -= 1
            if not depth:
                return (yield from _ends(m, look))
    return True


def _ends(m: Machine, look: Look) -> Done:
    """Whether nothing more stands on the line."""
    while (char := (yield from look.char())) and char in " \t\r":
        look.skip()
    return char in ("", "\n") or bool((yield from look.marker(m.final)))
