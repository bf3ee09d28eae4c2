"""Calls that no marker stands in front of: those of families that have none, and those whose opener is lost.

    get_weather(city="Oslo", days=3)
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    get_weather<arg_key>city</arg_key><arg_value>Oslo</arg_value></tool_call>

The same words may stand in an answer that speaks of calls. So a line of Python is looked over before it is believed, as
far as it is short; a longer one is a call by its beginning. And an opener is taken for lost only where the tool is
declared and its call is the first thing that the answer says, or an object on a line of its own with the call's closer
behind it.
"""

from __future__ import annotations

from collections.abc import Iterable

from portico.parsing.json_text import Done
from portico.parsing.machine import Machine
from portico.parsing.tape import Look, markers

__all__ = ["LONGEST_OBJECT", "is_closed", "is_line"]

LONGEST_OBJECT = 4096  # characters of an object inside a text that are looked over
_LONGEST_LINE = 256
_CLOSERS = frozenset(")]}")
_LITTER = frozenset("]},;")


def is_line(m: Machine, closers: Iterable[str] = ()) -> Done:
    """Whether the brackets that follow are all of the line, or one of ``closers`` stands behind them; the end of the
    answer ends it, wherever it stands."""
    look = Look(m.tape)
    if not (yield from _brackets(look, _LONGEST_LINE)):
        return True
    while (char := (yield from look.char())) and char in " \t\r":
        look.skip()
    return char in ("", "\n") or bool((yield from look.marker(markers(*closers, *m.final.spellings))))


def is_closed(m: Machine, closers: Iterable[str]) -> Done:
    """Whether one of these stands behind the brackets that follow."""
    look = Look(m.tape)
    if not (yield from _brackets(look, LONGEST_OBJECT)):
        return False
    while (char := (yield from look.space())) and char in _LITTER:
        look.skip()
    return bool((yield from look.marker(markers(*closers))))


def _brackets(look: Look, longest: int) -> Done:
    """Go past brackets and what they hold; whether they close in time, the first of them within a word's reach."""
    quote, depth = "", 0
    for _ in range(longest):
        char = yield from look.char()
        if not char:
            return False
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
                return True
    return False
