"""Values in literal syntaxes other than JSON, put into JSON as they come.

``literal`` reads the syntaxes of Python and of the Gemma family with one loop over an explicit
stack: what differs between them is a ``Dialect``. White space, commas and brackets go through as they are, so JSON
read as a Python literal comes out unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass

from portico.parsing.json_text import Done, Emit, escaped, quoted
from portico.parsing.schema import Schema
from portico.parsing.tape import Tape, comes, markers, peek, until

__all__ = ["DEPTH", "PYTHON", "Dialect", "Typed", "literal", "transcribe"]

DEPTH = 100  # brackets inside brackets; deeper nesting is refused
Typed = Callable[[str, "Schema | None"], str]  # the JSON text of bare words, given the schema of their place


def _as_text(text: str, schema: Schema | None) -> str:
    return quoted(text)


@dataclass(frozen=True)
class Dialect:
    """How a literal syntax differs from JSON."""

    quotes: tuple[str, ...]  # string delimiters
    escapes: bool = False  # backslash escapes in strings
    bare_keys: bool = False  # {key:value}
    tuples: bool = False  # (1, 2)


_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
PYTHON = Dialect(('"""', "'''", '"', "'"), escapes=True, tuples=True)

_WORD = re.compile(r"[^\s,:=()\[\]{}'\"<`]*")
_LOOSE = re.compile(r"[^,()\[\]{}<]*")
_LONGEST = 512  # characters of a bare word or key
_BASED = re.compile(r"([+-]?)0(?:[xX]([0-9a-fA-F_]+)|[oO]([0-7_]+)|[bB]([01_]+))")
_DECIMAL = re.compile(r"([+-]?)([0-9][0-9_]*)?(\.[0-9_]*)?([eE][+-]?[0-9]+)?")
_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_JSON_BRACKET = {"(": "[", ")": "]"}
_SIMPLE = {"n": "\\n", "t": "\\t", "r": "\\r", "b": "\\b", "f": "\\f", '"': '\\"', "\\": "\\\\", "/": "/", "'": "'"}
_SIMPLE |= {"a": "\\u0007", "v": "\\u000b", "\n": ""}
_HEX = {"x": 2, "u": 4, "U": 8}
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


def literal(tape: Tape, emit: Emit, dialect: Dialect, schema: Schema | None = None, typed: Typed = _as_text) -> Done:
    """Read one value and pass it on as JSON text. False at the first thing that is no such value (not consumed)."""
    frames: list[tuple[str, Schema | None]] = []  # the brackets that are open: closer owed, schema
    here = schema  # of the value being read
    while True:
        char = yield from peek(tape)
        if char in ("{", "[") or (char == "(" and dialect.tuples):
            if len(frames) >= DEPTH:
                return False
            tape.take(tape.at + 1)
            emit(_JSON_BRACKET.get(char, char))
            frames.append((_CLOSERS[char], here))
            blank = yield from _blank(tape)
            if (yield from peek(tape)) != frames[-1][0]:
                emit(blank)
                entered = yield from _enter(tape, emit, dialect, *frames[-1])
                if entered is _NO:
                    return False
                here = entered
                continue
            emit(blank)
        elif not (yield from _scalar_literal(tape, emit, dialect, here, typed)):
            return False
        while frames:  # a value has ended: close brackets up to the next comma
            closer, within = frames[-1]
            blank = yield from _blank(tape)
            char = yield from peek(tape)
            if char == ",":
                tape.take(tape.at + 1)
                after = yield from _blank(tape)
                char = yield from peek(tape)
                if char != closer:  # a comma before the closer is legal, and dropped
                    emit(blank + "," + after)
                    entered = yield from _enter(tape, emit, dialect, closer, within)
                    if entered is _NO:
                        return False
                    here = entered
                    break
                blank += after
            if char != closer:
                return False
            tape.take(tape.at + 1)
            emit(blank + _JSON_BRACKET.get(closer, closer))
            frames.pop()
        else:
            return True


_NO = Schema({})  # what ``_enter`` gives when there is no key


def _enter(
    tape: Tape, emit: Emit, dialect: Dialect, closer: str, within: Schema | None
) -> Generator[None, None, Schema | None]:
    """Read what stands before a value in this bracket (a key, in an object) and give the value's schema."""
    if closer != "}":
        return within.items if within is not None else None
    key: list[str] = []
    start = yield from comes(tape, markers(*dialect.quotes))
    if start:
        if not (yield from _string(tape, key.append, dialect, start)):
            return _NO
        name = "".join(key)
    else:
        word = yield from _word(tape, _WORD)
        if not word or (yield from peek(tape)) == "":
            return _NO
        if not dialect.bare_keys and word not in _WORDS and not _number(word):
            return _NO
        name = escaped(word)
    blank = yield from _blank(tape)
    if (yield from peek(tape)) != ":":
        return _NO
    tape.take(tape.at + 1)
    emit(f'"{name}"{blank}:')
    emit((yield from _blank(tape)))
    return within.member(name) if within is not None else None


def _scalar_literal(tape: Tape, emit: Emit, dialect: Dialect, schema: Schema | None, typed: Typed) -> Done:
    start = yield from comes(tape, markers(*dialect.quotes))
    if start:
        delimited = not dialect.escapes and schema is not None and schema.types and "string" not in schema.types
        pieces: list[str] = []
        if not delimited:
            emit('"')
        done = yield from _string(tape, pieces.append if delimited else emit, dialect, start)
        while done and dialect.escapes and (start := (yield from comes(tape, markers(*dialect.quotes)))):
            done = yield from _string(tape, emit, dialect, start)  # 'a' 'b' is 'ab'
        if delimited:
            emit(typed(_unescaped("".join(pieces)), schema))
        elif done:
            emit('"')
        return done
    word = (yield from _word(tape, _LOOSE if dialect.bare_keys else _WORD)).strip()
    if not word:
        return False
    if dialect.bare_keys:
        emit(typed(word, schema))
        return True
    if len(word) <= 2 and dialect.escapes and set(word.lower()) <= set("rbuf"):
        start = yield from comes(tape, markers(*dialect.quotes))
        if not start:
            return False
        emit('"')
        done = yield from _string(tape, emit, dialect, start, raw="r" in word.lower())
        if done:
            emit('"')
        return done
    found = _WORDS.get(word) or _number(word)
    emit(found)
    return bool(found)


def _string(tape: Tape, emit: Emit, dialect: Dialect, delimiter: str, raw: bool = False) -> Done:
    """The body of a string, up to and with its delimiter, as the inside of a JSON string."""

    def pass_on(text: str) -> None:
        emit(escaped(text))

    wanted = markers(delimiter, "\\") if dialect.escapes else markers(delimiter)
    while True:
        found = yield from until(tape, wanted, pass_on)
        if found != "\\":
            return bool(found)
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


def _blank(tape: Tape) -> Generator[None, None, str]:
    """Consume white space and return it."""
    pieces = ""
    while True:
        found = _SPACES.match(tape.text, tape.at)
        if found and found.end() > tape.at:
            pieces += tape.take(found.end())
        if tape.at < len(tape.text) or tape.ended:
            return pieces
        yield


_SPACES = re.compile(r"[ \t\r\n]*")


def _word(tape: Tape, pattern: re.Pattern[str]) -> Generator[None, None, str]:
    """Consume a run of word characters, ``_LONGEST`` at most, known to be whole."""
    while True:
        found = pattern.match(tape.text, tape.at, tape.at + _LONGEST)
        end = found.end() if found else tape.at
        if end < len(tape.text) or tape.ended or end - tape.at == _LONGEST:
            return tape.take(end)
        yield


def _number(word: str) -> str:
    """A number of Python as one of JSON; "" if it is none."""
    if based := _BASED.fullmatch(word):
        sign, digits = based.group(1), based.group(2) or based.group(3) or based.group(4)
        base = 16 if based.group(2) else 8 if based.group(3) else 2
        try:
            return ("-" if sign == "-" else "") + str(int(digits, base))
        except ValueError:
            return ""
    decimal = _DECIMAL.fullmatch(word)
    if decimal is None or not (decimal.group(2) or (decimal.group(3) or ".").strip("._")):
        return ""
    sign, whole, fraction, exponent = (group or "" for group in decimal.groups())
    whole = whole.replace("_", "").lstrip("0") or "0"
    fraction = fraction.replace("_", "")
    fraction = "" if not fraction else fraction if len(fraction) > 1 else ".0"
    return ("-" if sign == "-" else "") + whole + fraction + exponent


def _unescaped(inside: str) -> str:
    return str(json.loads(f'"{inside}"'))


def transcribe(text: str, dialect: Dialect) -> str | None:
    """A complete literal as JSON text, or None if the text is something else."""
    tape = Tape()
    tape.feed(text)
    tape.ended = True
    pieces: list[str] = []
    reader = literal(tape, pieces.append, dialect)
    try:
        next(reader)
    except StopIteration as stop:
        if stop.value and not tape.text[tape.at :].strip():
            return "".join(pieces)
    return None
