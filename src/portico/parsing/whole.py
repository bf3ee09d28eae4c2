"""Arguments on their way out: what leaves is always the beginning of one JSON object, and what it owes is known.

Codecs say JSON text as they read it, and models drift: a bracket, a quote or a colon is missing, a backslash escapes
nothing, a bare word stands where a value should. ``Whole`` lets a key out together with its value only, so that the
arguments can be closed at any point, and puts into JSON what has one meaning. Text of an object that is well formed
goes through unchanged. Arguments wrapped once more (``{"arguments": {…}}``) are unwrapped where the tool has no such
parameter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from portico.parsing.json_text import DEPTH, escaped, quoted
from portico.parsing.schema import Schema

__all__ = ["WRAPPERS", "Whole", "object_in"]

WRAPPERS = ("arguments", "args", "argument", "parameters", "params", "input", "properties")  # names for all arguments

_SIGN = re.compile(r'["\\\x00-\x1f]')  # what means something inside a string, or is not allowed there
_BODY = re.compile(r'(?:[^"\\\x00-\x1f]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_PARTIAL = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_BLANK = re.compile(r"[ \t\r\n]*")
_BARE = re.compile(r'[^,:\[\]{}"\r\n]*')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS = {"true": "true", "false": "false", "null": "null", "True": "true", "False": "false", "None": "null"}

_KEY, _INKEY, _COLON, _VALUE, _TEXT, _BARE_VALUE, _AFTER, _DONE, _OVER = range(9)


def object_in(text: str) -> str | None:
    """The text of the JSON object that a JSON string (its text, quotes included) holds; None if it holds none."""
    try:
        inside = json.loads(text, strict=False)
        return inside if isinstance(inside, str) and isinstance(json.loads(inside, strict=False), dict) else None
    except (ValueError, RecursionError):
        return None


class Whole:
    """The arguments of one call of a tool with this schema; None if it is not declared."""

    __slots__ = (
        "_first",
        "_held",
        "_key",
        "_lifted",
        "_note",
        "_open",
        "_partial",
        "_schema",
        "_state",
        "_word",
        "rest",
        "said",
    )

    def __init__(self, schema: Schema | None, note: Callable[[str], None]) -> None:
        self._schema = schema
        self._note = note  # told the kind of every repair
        self._open: list[str] = []  # closers owed
        self._state = _VALUE
        self._held: list[str] = []  # separators and a key, waiting for their value
        self._key: list[str] = []  # a key that is being read
        self._partial = ""  # the beginning of an escape
        self._word: list[str] = []  # a bare value or a wrapper's text, not complete
        self._first = True  # no member has come out
        self._lifted = 0  # 1: inside the object that a wrapper held, 2: behind it
        self.said = False
        self.rest: list[str] = []  # what cannot be part of an object

    def feed(self, text: str) -> str:
        """More of the arguments; what of them may leave now."""
        if self._state == _TEXT and not self._partial and not self._word and not _SIGN.search(text):
            return text  # the common case: the inside of a string
        out: list[str] = []
        text = self._partial + text
        self._partial = ""
        at = 0
        while at < len(text):
            at = self._step(text, at, out)
        if out:
            self.said = True
        return "".join(out)

    def close(self) -> str:
        """The arguments have ended; what completes the object."""
        out: list[str] = []
        if self._partial:
            self._string_of(out).append("\\\\" + self._partial[1:])
            self._partial = ""
        if self._state == _TEXT:
            self._string_of(out).append('"')
            self._end_of_text(out)
        elif self._state == _BARE_VALUE:
            self._bare_value(out)
        if self._open:
            self._note("brackets left open")
            while self._open:
                closer = self._open.pop()
                out.append(closer)
        elif not self.said and not out:
            out.append("{}")
        self._state = _DONE
        return "".join(out)

    # -- one step ---------------------------------------------------------------------------------------------------

    def _step(self, text: str, at: int, out: list[str]) -> int:
        state = self._state
        if state in (_TEXT, _INKEY):
            return self._inside(text, at, out)
        if state == _BARE_VALUE:
            found = _BARE.match(text, at)
            end = found.end() if found else at
            self._word.append(text[at:end])
            if end < len(text):
                self._bare_value(out)
            return end
        blank = _BLANK.match(text, at)
        if blank and blank.end() > at and state != _OVER:
            if state == _DONE or not self._open:
                return blank.end()
            self._held.append(blank.group())
            return blank.end()
        char = text[at]
        if state == _VALUE:
            return self._value(text, at, char, out)
        if state == _KEY:
            if char == '"':
                self._key = [char]
                self._state = _INKEY
            elif char == "}":
                self._held = [piece for piece in self._held if piece != ","]  # a comma before the closer
                self._closed(out)
            elif char == "{" and self._first:
                self._note("a marker twice")
            elif char not in ",]":
                return self._give_up(text, at)
            return at + 1
        if state == _COLON:
            if char in ",}]":
                self._forget()
                return at
            self._state = _VALUE
            self._held.append(":")
            if char == "=":
                self._note("an equals sign in place of a colon")
            elif char != ":":
                self._note("a colon left out")
                return at
            return at + 1
        if state == _AFTER:
            if char == ",":
                self._held.append(",")
                self._state = _KEY if self._open[-1] == "}" else _VALUE
            elif char == self._open[-1]:
                self._closed(out)
            elif char in "}]" and char in self._open:
                self._note("brackets left open")
                while self._open[-1] != char:
                    self._closed(out)
                self._closed(out)
            elif char == '"':
                self._note("a comma left out")
                self._held += [",", " "]
                self._state = _KEY if self._open[-1] == "}" else _VALUE
                return at
            elif char not in "}]":
                return self._give_up(text, at)
            return at + 1
        return at + 1 if state == _DONE and char in "}]" else self._give_up(text, at)

    def _give_up(self, text: str, at: int) -> int:
        """What follows is no part of the object."""
        self._state = _OVER
        self.rest.append(text[at:])
        return len(text)

    def _forget(self) -> None:
        """A key that has no value is text and no member."""
        at = max(index for index, piece in enumerate(self._held) if piece[:1] == '"')
        self._note("a key without a value")
        self.rest.append(self._held[at])
        del self._held[at:]
        self._state = _KEY

    def _value(self, text: str, at: int, char: str, out: list[str]) -> int:
        if not self._open and char != "{":
            return self._give_up(text, at)
        if char in "{[":
            if len(self._open) > DEPTH:
                return self._give_up(text, at)
            if char == "{" and self._wrapped():
                self._note("arguments wrapped once more")
                self._held, self._lifted = [], 1
                self._state = _KEY
                return at + 1
            self._flush(out)
            out.append(char)
            self._open.append("}" if char == "{" else "]")
            self._state = _KEY if char == "{" else _VALUE
        elif char == '"':
            if self._wrapped():
                self._word = ['"']  # it may hold an object
            else:
                self._flush(out)
                out.append(char)
            self._state = _TEXT
        elif char == "]" and self._open[-1] == "]":
            self._held = [piece for piece in self._held if piece != ","]
            self._closed(out)
        elif char in "},]" and self._open[-1] == "}":
            self._forget()
            return at
        elif char in "}],:":
            return at + 1
        else:
            self._state = _BARE_VALUE
            self._word = []
            return at
        return at + 1

    def _inside(self, text: str, at: int, out: list[str]) -> int:
        """The inside of a string: a key, a value, or the text of a wrapper."""
        target = self._key if self._state == _INKEY else self._string_of(out)
        found = _BODY.match(text, at)
        end = found.end() if found else at
        if end > at:
            target.append(text[at:end])
        if end == len(text):
            return end
        char = text[end]
        if char == '"':
            target.append(char)
            if self._state == _INKEY:
                self._held.append("".join(self._key))
                self._state = _COLON
            else:
                self._end_of_text(out)
        elif char != "\\":
            target.append(escaped(char))
        elif _PARTIAL.match(text, end):
            self._partial = text[end:]
            return len(text)
        else:
            self._note("a backslash that escapes nothing")
            target.append("\\\\")
        return end + 1

    def _string_of(self, out: list[str]) -> list[str]:
        return self._word if self._word else out

    def _end_of_text(self, out: list[str]) -> None:
        if self._word:
            text, self._word = "".join(self._word), []
            inside = object_in(text)
            if inside is not None:
                self._note("arguments wrapped once more")
                self._held, self._lifted = [], 1
                self._state = _KEY
                body = inside.strip()
                at = 1
                while at < len(body):
                    at = self._step(body, at, out)
                return
            self._flush(out)
            out.append(text)
        self._state = _AFTER

    def _bare_value(self, out: list[str]) -> None:
        word = "".join(self._word)
        self._word = []
        bare = word.strip()
        self._state = _AFTER
        if not bare:
            return
        if bare in _WORDS or _NUMBER.fullmatch(bare):
            text = _WORDS.get(bare, bare)
        else:
            self._note("a value without quotes")
            text = quoted(bare[1:-1] if len(bare) > 1 and bare[0] == bare[-1] == "'" else bare)
        self._flush(out)
        out.append(text)
        self._held.append(word[len(word.rstrip()) :])

    def _wrapped(self) -> bool:
        """Whether the key that waits is the only one so far and a name for all arguments, not a parameter."""
        if self._schema is None or not self._first or len(self._open) != 1 or self._lifted:
            return False
        key = "".join(self._held).strip(" \t\r\n:")[1:-1]
        return key in WRAPPERS and self._schema.member(key) is None

    def _flush(self, out: list[str]) -> None:
        if self._first and self._open:
            self._first = False
            self._held = [piece for piece in self._held if piece != ","]
        if self._held:
            out.extend(self._held)
            self._held = []

    def _closed(self, out: list[str]) -> None:
        if self._lifted == 1 and len(self._open) == 1:
            self._lifted = 2  # the object in the wrapper; the wrapper's own bracket is owed
            self._held = []
            self._state = _AFTER
            return
        self._flush(out)
        out.append(self._open.pop())
        self._state = _AFTER if self._open else _DONE
