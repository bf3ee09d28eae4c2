"""JSON as text: passed through as a model writes it, and strings put into quotes.

``json_value`` knows only enough JSON to find where a value ends (strings, brackets, depth) and passes the model's own
text through; the one thing it changes is a raw control character inside a string, which no JSON reader would accept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from json.encoder import encode_basestring
from typing import TypeAlias

from portico.parsing.tape import Markers, Tape, peek

__all__ = ["Done", "Emit", "escaped", "json_value", "quoted"]

Done: TypeAlias = Generator[None, None, bool]
Emit: TypeAlias = Callable[[str], None]

_OUTSIDE = re.compile(r'["{}\[\]]|[^\s\w.,:+\-]')
_INSIDE = re.compile('["\\\\\x00-\x1f]')
_SCALAR = re.compile(r"[\w.+\-]*")


def json_value(tape: Tape, emit: Emit, stops: Markers) -> Done:
    """Pass on one JSON value, from its first character to its last. False if it was cut short.

    ``stops``: markers that end a broken value when they stand outside its strings.
    """
    first = yield from peek(tape)
    if first not in ("{", "[", '"'):
        return (yield from _scalar(tape, emit, stops))
    depth = 0
    inside = escape = False
    at = tape.at
    while True:
        text, end = tape.text, len(tape.text)
        while at < end:
            if inside:
                if escape:
                    escape = False
                    at += 1
                    continue
                found = _INSIDE.search(text, at)
                if found is None:
                    at = end
                    break
                at = found.end()
                char = found.group()
                if char == '"':
                    inside = False
                    if not depth:
                        emit(tape.take(at))
                        return True
                elif char == "\\":
                    escape = True
                else:
                    emit(tape.take(at - 1))
                    tape.take(at)
                    emit(escaped(char))
                continue
            found = _OUTSIDE.search(text, at)
            if found is None:
                at = end
                break
            char = found.group()
            if char == '"':
                inside = True
            elif char in "{[":
                depth += 1
            elif char in "}]":
                depth -= 1
                if not depth:
                    emit(tape.take(found.end()))
                    return True
            else:  # not JSON: a marker that ends the call, or noise
                stop = stops.match(text, found.start(), tape.ended)
                if stop is not None:
                    if found.start() > tape.at:
                        emit(tape.take(found.start()))
                    at = tape.at
                    if stop[2]:
                        return False
                    break
            at = found.end()
        if at > tape.at:
            emit(tape.take(at))
        if tape.ended:
            return False
        before = tape.at
        yield
        at = tape.at + (at - before)


def _scalar(tape: Tape, emit: Emit, stops: Markers) -> Done:
    """A number or word; anything else is passed on until a stop."""
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
