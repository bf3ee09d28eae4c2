"""JSON as text: passed through as a model writes it, and strings put into quotes.

``json_value`` finds where a value ends and passes the model's own text through. It forgives what models get wrong about
strings: a quote inside one ends it only where JSON could go on behind it, else it is escaped; a string whose closer is
missing ends at the marker that ends the call. What else is wrong is mended, or given up, by ``whole``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from json.encoder import encode_basestring
from typing import TypeAlias

from portico.parsing.ending import Ends, Verdict, text_value
from portico.parsing.tape import Look, Tape, markers, peek

__all__ = ["DEPTH", "Done", "Emit", "escaped", "json_value", "quoted"]

DEPTH = 100  # brackets inside brackets; deeper nesting is refused
Done: TypeAlias = Generator[None, None, bool]
Emit: TypeAlias = Callable[[str], None]

_OUTSIDE = re.compile(r'["{}\[\]:,]|[\w.+\-]+|[^\s\w.+\-]')
_SCALAR = re.compile(r"[\w.+\-]+")
_LONGEST_KEY = 64
_SKIP = frozenset(("\\\\", '\\"'))  # escapes that hold a quote or hide one


def json_value(tape: Tape, emit: Emit, ends: Ends) -> Done:
    """Pass on one JSON value, from its first character to its last. False if it was cut short."""
    first = yield from peek(tape)
    if first not in ("{", "[", '"'):
        return (yield from _scalar(tape, emit))
    owed: list[str] = []  # closers of the brackets that are open
    is_key = False  # a string that stands here can only be a key
    at = tape.at
    while True:
        text, end = tape.text, len(tape.text)
        found = _OUTSIDE.search(text, at) if at < end else None
        if found is None:
            if end > tape.at:
                emit(tape.take(end))
            if tape.ended:
                return False
            yield
            at = tape.at
            continue
        char, at = found.group(), found.end()
        if char == '"':
            emit(tape.take(at))
            if not (yield from _string(tape, emit, ends, owed, is_key)):
                return False
            if not owed:
                return True
            is_key = not is_key and owed[-1] == "}"
            at = tape.at
        elif char in "{[":
            if len(owed) > DEPTH:
                return False
            owed.append("}" if char == "{" else "]")
            is_key = char == "{"
        elif char in "}]":
            if char not in owed:
                continue
            while owed.pop() != char:
                pass
            if not owed:
                emit(tape.take(at))
                return True
            is_key = owed[-1] == "}"
        elif char == ":":
            is_key = False
        elif char == "," or _SCALAR.match(char):
            is_key = owed[-1] == "}"
        else:  # not JSON: a marker that ends the call, or noise
            stop = ends.marks.match(text, at - 1, tape.ended)
            if stop is None:
                continue
            if at - 1 > tape.at:
                emit(tape.take(at - 1))
            if stop[2]:
                return False
            if tape.ended:
                at = tape.at + 1
                continue
            yield
            at = tape.at


def _string(tape: Tape, emit: Emit, ends: Ends, owed: list[str], is_key: bool) -> Done:
    """The rest of a string, with its closing quote. False if the text ended inside it."""
    wanted = markers('"', *_SKIP, *ends.marks.spellings)
    suspected = False

    def judge(found: str) -> Generator[None, None, Verdict]:
        nonlocal suspected
        if found in _SKIP:
            return Verdict.TEXT
        if found == '"':
            if is_key or not owed or (yield from _closes(tape, ends, owed)):
                return Verdict.CLOSES
            if suspected:  # a marker, and then a quote that JSON would have escaped
                return Verdict.STRUCTURE
            tape.matched = '\\\\"'
            return Verdict.TEXT
        suspected = True
        return Verdict.PERHAPS

    verdict = yield from text_value(tape, emit, wanted, judge)
    if verdict is not Verdict.CUT:
        emit('"')
    return verdict is not Verdict.CUT


def _closes(tape: Tape, ends: Ends, owed: list[str]) -> Generator[None, None, bool]:
    """Whether JSON could go on behind the quote just read, inside these brackets, so that it ends its string."""
    look = Look(tape)
    char = yield from look.space()
    if char == "" or (char in "}]" and char != owed[-1]):
        return True
    if char == ",":
        look.skip()
        char = yield from look.space()
        return char in ('"', "}", "") if owed[-1] == "}" else char in '"{[]-0123456789tfnTFN' or char == ""
    if char == owed[-1]:
        look.skip()
        if len(owed) == 1:
            return True
        char = yield from look.space()
        return char in ",}]" or char == "" or bool((yield from look.marker(ends.marks)))
    if char == '"':  # a comma is missing, if what follows is a key
        return owed[-1] == "}" and (yield from _key(look))
    return bool((yield from look.marker(ends.marks)))


def _key(look: Look) -> Generator[None, None, bool]:
    """Whether a string and a colon come."""
    look.skip()
    for _ in range(_LONGEST_KEY):
        char = yield from look.char()
        if char in ("", "\n", "\\"):
            break
        look.skip()
        if char == '"':
            return (yield from look.space()) == ":"
    return False


def _scalar(tape: Tape, emit: Emit) -> Done:
    """A number or word."""
    seen = False
    while True:
        found = _SCALAR.match(tape.text, tape.at)
        if found and found.end() > tape.at:
            emit(tape.take(found.end()))
            seen = True
        if tape.at < len(tape.text):
            return seen
        if tape.ended:
            return False
        yield


def escaped(text: str) -> str:
    """Text as it stands between the quotes of a JSON string."""
    return encode_basestring(text)[1:-1]


def quoted(text: str) -> str:
    """A JSON string."""
    return f'"{escaped(text)}"'
