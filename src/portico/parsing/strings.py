"""Strings in literal syntaxes, and which quote ends one.

Models that write Python do not always escape the quotes inside a string, and those that have a delimiter of their own
fall back on plain quotes. So a quote ends its string only where the syntax could go on behind it: ``'it's ok', n=1``.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass

from portico.parsing.ending import Ends, Judge, Verdict, text_value
from portico.parsing.json_text import Done, Emit, escaped
from portico.parsing.tape import Look, Tape, markers, peek, until

__all__ = ["JAVASCRIPT", "PYTHON", "Dialect", "quote_here", "string"]


@dataclass(frozen=True)
class Dialect:
    """How a literal syntax differs from JSON."""

    quotes: tuple[str, ...]  # string delimiters, the written one first
    escapes: bool = False  # backslash escapes in strings
    bare_keys: bool = False  # {key:value}
    tuples: bool = False  # (1, 2)

    @property
    def every(self) -> tuple[str, ...]:
        """All delimiters that a string may have: the syntax's, and the plain ones that models fall back on."""
        return self.quotes if self.escapes else (*self.quotes, '"', "'")


PYTHON = Dialect(('"""', "'''", '"', "'"), escapes=True, tuples=True)
JAVASCRIPT = Dialect(('"', "'", "`"), escapes=True, bare_keys=True)

_SIMPLE = {"n": "\\n", "t": "\\t", "r": "\\r", "b": "\\b", "f": "\\f", '"': '\\"', "\\": "\\\\", "/": "/", "'": "'"}
_SIMPLE |= {"a": "\\u0007", "v": "\\u000b", "\n": ""}
_HEX = {"x": 2, "u": 4, "U": 8}
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_KEY = re.compile(r"[\w.\-$]*")
_LONGEST_KEY = 128
_VALUE = frozenset("\"'{[(+-.0123456789")
_BEHIND = frozenset(",;<>)]}\n\r")  # what may stand behind the brackets of a call


def quote_here(look: Look, dialect: Dialect) -> Generator[None, None, str]:
    """The delimiter that comes next, if one does."""
    return (yield from look.marker(markers(*dialect.every)))


def string(
    tape: Tape, emit: Emit, dialect: Dialect, delimiter: str, place: str, ends: Ends | None = None, raw: bool = False
) -> Done:
    """The rest of a string, up to and with its delimiter, as the inside of a JSON string.

    ``place``: the closer of the brackets around it, ``:`` for a key, ``=`` for an argument of a call, which ``ends``
    may follow, or ``value`` for none.
    """

    def pass_on(text: str) -> None:
        emit(escaped(text))

    plain = delimiter in ("'", '"')
    if not plain and not dialect.escapes and ends is None:
        return bool((yield from until(tape, markers(delimiter), pass_on)))
    stops = ends.marks.spellings if ends is not None else ()
    wanted = markers(delimiter, "\\", *stops) if dialect.escapes else markers(delimiter, *stops)
    suspected = False

    def judge(found: str) -> Generator[None, None, Verdict]:
        nonlocal suspected
        if found == delimiter:
            if not (plain or ends is not None) or (yield from _closes(tape, dialect, place, ends, plain)):
                return Verdict.CLOSES
            if not plain:
                tape.matched = ""  # a delimiter is no text
            return Verdict.STRUCTURE if suspected else Verdict.TEXT
        suspected = True
        return Verdict.PERHAPS

    while True:
        if not dialect.escapes:
            return (yield from text_value(tape, pass_on, wanted, judge)) is not Verdict.CUT
        verdict = yield from text_value(tape, pass_on, wanted, _until_escape(judge))
        if verdict is Verdict.CUT:
            return False
        if tape.matched != "\\" or verdict is not Verdict.CLOSES:
            return True
        char = yield from peek(tape)
        if not char:
            return False
        tape.take(tape.at + 1)
        if raw:
            emit("\\\\" + escaped(char))
        elif char in _SIMPLE:
            emit(_SIMPLE[char])
        elif char in _HEX:
            emit((yield from _hex_escape(tape, char)))
        elif char in "01234567":
            digits = char
            while len(digits) < 3 and (char := (yield from peek(tape))) and char in "01234567":
                tape.take(tape.at + 1)
                digits += char
            emit(escaped(chr(int(digits, 8))))
        else:
            emit("\\\\" + escaped(char))  # no escape: the backslash is part of the text


def _until_escape(judge: Judge) -> Judge:
    """The same judge, for text up to the next escape."""

    def judged(found: str) -> Generator[None, None, Verdict]:
        return Verdict.CLOSES if found == "\\" else (yield from judge(found))

    return judged


def _closes(tape: Tape, dialect: Dialect, place: str, ends: Ends | None, plain: bool) -> Generator[None, None, bool]:
    """Whether the syntax could go on behind the delimiter just read; ``plain``: it is a quote, as texts have."""
    look = Look(tape)
    char = yield from look.space()
    if char == "":
        return True
    if char == ":" and place == "}":
        return True  # the string is a key
    if place in (":", "value"):
        return char == ":" or place == "value"
    signs = ("=", ":") if dialect.bare_keys else ("=",) if place == "=" else (":",)
    if char == ",":
        look.skip()
        char = yield from look.space()
        if char == "" or char in ")]}":
            return True
        if place == "]" or (place == ")" and dialect.tuples):
            return char in _VALUE or (yield from look.word(_KEY, _LONGEST_KEY)) in ("True", "False", "None", "true")
        if char in "'\"" or (yield from look.copy().marker(markers(*dialect.quotes))):  # a key in quotes
            return place == "}" or dialect.bare_keys
        return bool((yield from look.word(_KEY, _LONGEST_KEY))) and (yield from look.space()) in signs
    if not plain and dialect.bare_keys and char not in ")]}":  # a comma is missing, if what follows is a key
        ahead = look.copy()
        if (yield from ahead.word(_KEY, _LONGEST_KEY)) and (yield from ahead.space()) in signs:
            return True
    closer = ")}" if place == "=" else place
    if char in closer:
        look.skip()
        char = yield from look.space()
        if not plain or char == "" or char in _BEHIND or _line_above(tape):
            return True
        return ends is not None and bool((yield from look.marker(ends.marks)))
    if char in "'\"" and dialect.escapes:  # 'a' 'b'
        return tape.text[tape.at : tape.at + 1] in (" ", "\n", "\t")
    return ends is not None and bool((yield from look.marker(ends.marks)))


def _line_above(tape: Tape) -> bool:
    """Whether a line end stands between the closing bracket that comes and what follows it."""
    text = tape.text[tape.at :].lstrip()[1:]
    return "\n" in text[: len(text) - len(text.lstrip())]


def _hex_escape(tape: Tape, kind: str) -> Generator[None, None, str]:
    digits = ""
    while len(digits) < _HEX[kind]:
        char = yield from peek(tape)
        if char not in _HEX_DIGITS:
            return "\\\\" + kind + digits
        tape.take(tape.at + 1)
        digits += char
    code = int(digits, 16)
    if code > 0xFFFF:
        return escaped(chr(code)) if code <= 0x10FFFF else "\\\\" + kind + digits
    return f"\\u{code:04x}"
