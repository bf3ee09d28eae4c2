"""The input of a tool call: whatever the model wrote, the client reads one JSON object.

Anthropic's clients parse ``partial_json`` as it comes and fail on what can no longer become an object; a body must hold
one. Arguments that a model wrote may be cut off, or be no JSON at all. The rules:

- Arguments that are a JSON object go through unchanged, every character. A number or word waits until the next value
  or a closing bracket shows its end, and what stands in front of a value (comma, key, colon) until the value begins, so
  that any client can tell at any moment what is complete. Strings stream.
- A comma before a closing bracket is dropped. In strings, an escape that JSON does not know keeps its backslash as text
  (``\\d`` becomes ``\\\\d``), and half a surrogate pair becomes U+FFFD.
- Where the text stops being an object, what is open is closed and the rest is a string under ``INVALID_JSON``, the name
  that Anthropic's documentation has for it: nothing is lost, and nothing broken looks whole.
- Input that was cut off stays cut off in the stream; in the body it has its complete members, as in the SDKs.
"""

from __future__ import annotations

import json
import re
from enum import Enum, auto

__all__ = ["INVALID", "ToolInput"]

INVALID = "INVALID_JSON"
DEPTH = 100  # brackets inside brackets; the parsers of clients give up not far above
LONGEST_WORD = 400  # characters of a number or word

_CLOSERS = {"{": "}", "[": "]"}
_PLAIN = re.compile('[^"\\\\\x00-\x1f\ud800-\udfff]+')
_ESCAPE = re.compile(
    r'\\(?:["\\/bfnrt]|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})'
)
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BEGUN = re.compile(  # what may still become an escape
    r"\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?)?)?"
)
_LONGEST_ESCAPE = 12
_WORD = re.compile(r'[^ \t\r\n,:\[\]{}"]+')
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")


class _Next(Enum):
    """What may come next, outside strings."""

    OBJECT = auto()
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    COMMA = auto()  # or the closing bracket
    NOTHING = auto()


class ToolInput:
    """One call's arguments on their way to the client: ``feed`` it the model's text, send what comes back."""

    def __init__(self) -> None:
        self._sent: list[str] = []
        self._sound = 0  # how many pieces of ``_sent`` stay when the rest is cut off
        self._text = ""  # not yet read
        self._waiting = ""  # read, and sent when the value behind it begins
        self._ended = 0  # how much of ``_waiting`` is a number or word that has ended
        self._open: list[str] = []
        self._next = _Next.OBJECT
        self._string = False  # inside one
        self._key = False  # and it is a key
        self._empty = True  # the bracket just opened has nothing in it yet
        self._members = False  # the object has some
        self._invalid = False
        self._closed = False

    def feed(self, fragment: str) -> str:
        """The next piece of the arguments; returns the next piece of the input, perhaps none."""
        if self._string and not self._key and not self._text and _PLAIN.fullmatch(fragment):
            self._sent.append(fragment)  # the commonest case: more of a string
            return fragment
        before = len(self._sent)
        self._text += fragment
        self._read(ended=False)
        return "".join(self._sent[before:])

    def close(self, complete: bool = True) -> str:
        """The arguments have ended; ``complete`` is False where the answer was cut off inside them. Returns the rest
        of the input."""
        before = len(self._sent)
        self._read(ended=True)
        if self._next is _Next.NOTHING and not self._invalid:
            self._send(self._waiting)
            self._closed = True
        elif complete and (self._open or (self._waiting + self._text).strip()):
            self._fail()
            self._send('"}')
            self._closed = True
        return "".join(self._sent[before:])

    @property
    def whole(self) -> str:
        """The input as the JSON text of an object, after ``close``."""
        if self._closed:
            return "".join(self._sent)
        closers = "".join(_CLOSERS[bracket] for bracket in reversed(self._open))
        return "".join(self._sent[: self._sound]) + closers or "{}"

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, ended: bool) -> None:
        while self._text:
            if self._invalid:
                self._send(_escaped(self._text))
                self._text = ""
            elif not (self._read_string(ended) if self._string else self._read_structure()):
                return

    def _read_string(self, ended: bool) -> bool:
        """Read on inside a string. False if more text is needed."""
        text = self._text
        at = 0
        pieces: list[str] = []
        while at < len(text):
            char = text[at]
            if found := _PLAIN.match(text, at) or _ESCAPE.match(text, at):
                pieces.append(found.group())
                at = found.end()
            elif char == '"':
                pieces.append(char)
                at += 1
                self._string = False
                break
            elif char == "\\":
                if not ended and _BEGUN.fullmatch(text[at : at + _LONGEST_ESCAPE]):
                    break
                half = _HALF_PAIR.match(text, at)
                pieces.append("\\ufffd" if half else "\\\\")
                at = half.end() if half else at + 1
            else:
                pieces.append(_escaped(char))
                at += 1
        self._text = text[at:]
        piece = "".join(pieces)
        if self._key:
            self._waiting += piece
            if not self._string:
                self._key, self._next = False, _Next.COLON
        else:
            self._send(piece)
            if not self._string:
                self._value_over()
        return at > 0

    def _read_structure(self) -> bool:
        """Read one character, or word, outside strings. False if more text is needed."""
        char = self._text[0]
        wanted = self._next
        if char in " \t\r\n":
            return self._wait(char, wanted)
        if char in "{[":
            if wanted is _Next.VALUE or (wanted is _Next.OBJECT and char == "{"):
                return self._begin_bracket(char)
        elif char in "}]":
            if self._open and _CLOSERS[self._open[-1]] == char and self._may_close():
                return self._end_bracket(char)
        elif char == ",":
            if wanted is _Next.COMMA:
                return self._wait(char, _Next.KEY if self._open[-1] == "{" else _Next.VALUE)
        elif char == ":":
            if wanted is _Next.COLON:
                return self._wait(char, _Next.VALUE)
        elif char == '"':
            if wanted is _Next.KEY or wanted is _Next.VALUE:
                self._string, self._key, self._empty = True, wanted is _Next.KEY, False
                return self._wait(char, wanted) if self._key else self._begin_value(char)
        elif wanted is _Next.VALUE:
            return self._read_word()
        self._fail()
        return True

    def _read_word(self) -> bool:
        found = _WORD.match(self._text)
        assert found is not None
        word = found.group()
        if found.end() == len(self._text) and len(word) <= LONGEST_WORD:
            return False  # more of it may come; if none does, it was cut off
        if len(word) > LONGEST_WORD or not _SCALAR.fullmatch(word):
            self._fail()
            return True
        self._send_ended()
        self._send(self._waiting)
        self._waiting, self._ended = word, len(word)
        self._text = self._text[len(word) :]
        self._next, self._empty = _Next.COMMA, False
        return True

    # -- what was read ------------------------------------------------------------------------------------------------

    def _wait(self, text: str, then: _Next) -> bool:
        self._text = self._text[len(text) :]
        self._waiting += text
        self._next = then
        return True

    def _send_ended(self) -> None:
        """Send the number or word that waits."""
        if self._ended:
            self._send(self._waiting[: self._ended])
            self._waiting = self._waiting[self._ended :]
            self._ended, self._members = 0, True
            self._sound = len(self._sent)

    def _begin_value(self, text: str) -> bool:
        self._send_ended()
        self._text = self._text[len(text) :]
        self._send(self._waiting + text)
        self._waiting = ""
        self._members, self._empty = True, False
        return True

    def _value_over(self) -> None:
        self._next = _Next.COMMA
        self._sound = len(self._sent)

    def _begin_bracket(self, char: str) -> bool:
        if len(self._open) >= DEPTH:
            self._fail()
            return True
        within = bool(self._open)
        self._begin_value(char)
        self._members = within
        self._open.append(char)
        self._next = _Next.KEY if char == "{" else _Next.VALUE
        self._empty = True
        self._sound = len(self._sent)
        return True

    def _may_close(self) -> bool:
        """Whether a closing bracket may stand here: behind a value, or where the next one has not begun."""
        return self._next is _Next.COMMA or (
            self._next in (_Next.KEY, _Next.VALUE) and (self._empty or self._waiting[self._ended :].strip() == ",")
        )

    def _end_bracket(self, char: str) -> bool:
        self._send_ended()
        self._waiting = self._waiting.replace(",", "")
        if len(self._open) == 1:  # waits, because only the end of the arguments shows that nothing follows
            return self._wait(char, _Next.NOTHING)
        self._begin_value(char)
        self._open.pop()
        self._value_over()
        return True

    def _fail(self) -> None:
        """From here on the text is no JSON object: close what is open and take the rest as text."""
        if self._invalid:
            return
        self._send_ended()
        rest = self._waiting + self._text
        if self._next is _Next.NOTHING:
            rest = rest.replace("}", "", 1)
        if self._string and not self._key:
            self._send('"')
        self._send("".join(_CLOSERS[bracket] for bracket in reversed(self._open[1:])) if self._open else "{")
        self._open, self._string, self._invalid = ["{"], False, True
        self._sound = len(self._sent)
        self._send(("," if self._members else "") + f'"{INVALID}":"' + _escaped(rest))
        self._text = self._waiting = ""

    def _send(self, text: str) -> None:
        if text:
            self._sent.append(text)


def _escaped(text: str) -> str:
    """``text`` inside a JSON string; half surrogate pairs become U+FFFD."""
    return json.dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), ensure_ascii=False)[1:-1]
