"""Values in literal syntaxes other than JSON, put into JSON as they come.

``literal`` reads the syntaxes of Python and of the Gemma family with one loop over an explicit stack: what differs
between them is a ``Dialect``. White space, commas and brackets go through as they are, so JSON read as a Python literal
comes out unchanged. Strings and their quotes are in ``strings``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator

from portico.parsing.json_text import DEPTH, Done, Emit, escaped, quoted
from portico.parsing.schema import Schema
from portico.parsing.strings import JAVASCRIPT, PYTHON, Dialect, quote_here, string
from portico.parsing.tape import Look, Tape, comes, markers, peek, until

__all__ = ["DEPTH", "JAVASCRIPT", "PYTHON", "Dialect", "Typed", "literal", "transcribe"]

Typed = Callable[[str, "Schema | None"], str]  # the JSON text of bare words, given the schema of their place

_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_WORD = re.compile(r"[^\s,:=()\[\]{}'\"<`]*")
_KEY = re.compile(r"[\w.\-$@ ]*")
_LONGEST = 512  # characters of a bare word or key
_BASED = re.compile(r"([+-]?)0(?:[xX]([0-9a-fA-F_]+)|[oO]([0-7_]+)|[bB]([01_]+))")
_DECIMAL = re.compile(r"([+-]?)([0-9][0-9_]*)?(\.[0-9_]*)?([eE][+-]?[0-9]+)?")
_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_JSON_BRACKET = {"(": "[", ")": "]"}
_NO_VALUE = frozenset((")", "]", "}", ",", ":", ""))


def _as_text(text: str, schema: Schema | None) -> str:
    return quoted(text)


class _Bracket:
    """A bracket that is open: its closer, that of its JSON, and the schema of what it holds."""

    __slots__ = ("closer", "keyed", "owed", "schema")

    def __init__(self, closer: str, owed: str, schema: Schema | None) -> None:
        self.closer = closer
        self.owed = owed
        self.schema = schema
        self.keyed = owed == "}"


def literal(tape: Tape, emit: Emit, dialect: Dialect, schema: Schema | None = None, typed: Typed = _as_text) -> Done:
    """Read one value and pass it on as JSON text. False at the first thing that is no such value."""
    brackets: list[_Bracket] = []
    here = schema  # of the value being read
    while True:
        char = yield from peek(tape)
        if char in _CLOSERS and (char != "(" or dialect.tuples):
            if len(brackets) >= DEPTH:
                return False
            tape.take(tape.at + 1)
            entered = yield from _open(tape, emit, dialect, char, here)
            if entered is None:
                return False
            bracket, value_follows = entered
            brackets.append(bracket)
            if value_follows:
                here = _schema_in(bracket, value_follows)
                continue
        elif not (yield from _scalar(tape, emit, dialect, here, typed, "".join(b.closer for b in brackets))):
            return False
        while brackets:  # a value has ended: close brackets up to the next comma
            bracket = brackets[-1]
            blank = yield from _blank(tape)
            char = yield from peek(tape)
            if char == ",":
                tape.take(tape.at + 1)
                after = yield from _blank(tape)
                char = yield from peek(tape)
                if char != bracket.closer:  # a comma before the closer is legal, and dropped
                    emit(blank + "," + after)
                    key = (yield from _key(tape, dialect, bracket)) if bracket.keyed else ("", "")
                    if key is None:
                        return False
                    emit(key[1])
                    here = _schema_in(bracket, key[0] or _ITEM)
                    break
                blank += after
            if char != bracket.closer:
                return False
            tape.take(tape.at + 1)
            emit(blank + bracket.owed)
            brackets.pop()
        else:
            return True


_ITEM = "\0"  # the place of an item, which has no name


def _schema_in(bracket: _Bracket, name: str) -> Schema | None:
    if bracket.schema is None:
        return None
    return bracket.schema.member(name) if bracket.keyed else bracket.schema.items


def _open(
    tape: Tape, emit: Emit, dialect: Dialect, opener: str, schema: Schema | None
) -> Generator[None, None, tuple[_Bracket, str] | None]:
    """What an opener begins, and the name of the value that follows (one that has none for items); "" for none.

    A brace begins a dict, or a set, which JSON has as an array.
    """
    closer = _CLOSERS[opener]
    blank = yield from _blank(tape)
    char = yield from peek(tape)
    if opener != "{":
        emit("[" + blank)
        bracket = _Bracket(closer, "]", schema)
        return bracket, "" if char == closer else _ITEM
    if char == closer:
        emit("{" + blank)
        return _Bracket(closer, "}", schema), ""
    if dialect.tuples and (char in _CLOSERS or not (yield from _is_dict(tape, dialect))):
        emit("[" + blank)
        return _Bracket(closer, "]", schema), _ITEM
    bracket = _Bracket(closer, "}", schema)
    key = yield from _key(tape, dialect, bracket)
    if key is None:
        return None
    emit("{" + blank + key[1])
    return bracket, key[0] or _ITEM


def _is_dict(tape: Tape, dialect: Dialect) -> Generator[None, None, bool]:
    """Whether the scalar that comes has a colon behind it."""
    look = Look(tape)
    quote = yield from quote_here(look, dialect)
    if not quote:
        yield from look.word(_WORD, _LONGEST)
    else:
        for _ in range(_LONGEST):
            char = yield from look.char()
            if not char:
                return True
            look.skip()
            if char == "\\":
                look.skip()
            elif char == quote[-1]:
                break
    return (yield from look.space()) not in (",", "}")


def _key(tape: Tape, dialect: Dialect, bracket: _Bracket) -> Generator[None, None, tuple[str, str] | None]:
    """A key with its sign: its name, and the JSON text of both. None if there is none."""
    pieces: list[str] = []
    quote = yield from quote_here(Look(tape), dialect)
    if quote:
        tape.take(tape.at + len(quote))
        if not (yield from string(tape, pieces.append, dialect, quote, ":")):
            return None
        name = "".join(pieces)
    else:
        word = (yield from _word(tape, _KEY if dialect.bare_keys else _WORD)).strip()
        if not word or (not dialect.bare_keys and word not in _WORDS and not _number(word)):
            return None
        name = escaped(word)
    blank = yield from _blank(tape)
    sign = yield from peek(tape)
    if sign != ":" and not (sign == "=" and dialect.bare_keys):
        return None
    tape.take(tape.at + 1)
    return json.loads(f'"{name}"'), f'"{name}"{blank}:' + (yield from _blank(tape))


def _scalar(tape: Tape, emit: Emit, dialect: Dialect, schema: Schema | None, typed: Typed, inside: str) -> Done:
    start = yield from quote_here(Look(tape), dialect)
    place = inside[-1:] or "value"
    if start:
        tape.take(tape.at + len(start))
        delimited = not dialect.escapes and schema is not None and schema.types and "string" not in schema.types
        pieces: list[str] = []
        if not delimited:
            emit('"')
        done = yield from string(tape, pieces.append if delimited else emit, dialect, start, place)
        while done and dialect.escapes and (start := (yield from comes(tape, markers(*dialect.quotes)))):
            done = yield from string(tape, emit, dialect, start, place)  # 'a' 'b' is 'ab'
        if delimited:
            emit(typed(json.loads(f'"{"".join(pieces)}"'), schema))
        elif done:
            emit('"')
        return done
    if dialect.bare_keys:
        return (yield from _bare(tape, emit, dialect, schema, typed, place))
    word = yield from _word(tape, _WORD)
    if not word:
        return False
    if len(word) <= 2 and set(word.lower()) <= set("rbuf"):
        start = yield from comes(tape, markers(*dialect.quotes))
        if not start:
            return False
        emit('"')
        done = yield from string(tape, emit, dialect, start, place, raw="r" in word.lower())
        if done:
            emit('"')
        return done
    found = _WORDS.get(word) or _number(word)
    emit(found)
    return bool(found)


def _bare(tape: Tape, emit: Emit, dialect: Dialect, schema: Schema | None, typed: Typed, place: str) -> Done:
    """A value without delimiters: up to what ends it in this place. A closing delimiter shows that the opening one was
    lost, so that it is a string."""
    pieces: list[str] = []
    wanted = markers(",", "}", "]", ")", dialect.quotes[0])
    while True:
        found = yield from until(tape, wanted, pieces.append)
        text = "".join(pieces).strip()
        if found == dialect.quotes[0]:
            emit(quoted(text))
            return True
        if not found:
            if not text:
                return False
            emit(typed(text, schema))
            return True
        if found == "," and (place == "value" or (place == "}" and not (yield from _member(Look(tape), dialect)))):
            pieces.append(found)
            continue
        tape.back(found)
        if not text:
            return False
        emit(typed(text, schema))
        return True


def _member(look: Look, dialect: Dialect) -> Generator[None, None, bool]:
    """Whether a key and its sign come, or nothing more of this object."""
    char = yield from look.space()
    if char in _NO_VALUE or (yield from quote_here(look, dialect)):
        return True
    return bool((yield from look.word(_KEY, _LONGEST)).strip()) and (yield from look.space()) in (":", "=")


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


def transcribe(text: str, dialect: Dialect, schema: Schema | None = None, typed: Typed = _as_text) -> str | None:
    """A complete literal as JSON text, or None if the text is something else."""
    tape = Tape()
    tape.feed(text)
    tape.ended = True
    pieces: list[str] = []
    reader = literal(tape, pieces.append, dialect, schema, typed)
    try:
        next(reader)
    except StopIteration as stop:
        if stop.value and not tape.text[tape.at :].strip():
            return "".join(pieces)
    return None
