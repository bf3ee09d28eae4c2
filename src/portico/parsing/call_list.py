"""``python-call-list``: calls as a list in Python's syntax, the way a ``response_template`` means it.

    [get_weather(city="Oslo", days=3), ping()]

The specification is stricter than Python, so that readers in all languages agree: keywords only, no name twice, no
comma before a closer, strings in single or double quotes on one line with the escapes of JSON, integers that a double
holds, 100 brackets inside each other. ``True`` and ``true``, ``None`` and ``null`` are the same.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["call_list"]

_BLANK = re.compile(r"[ \t\n\r]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[-.][A-Za-z0-9_]+)*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<real>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
_ESCAPED = r"""\\(?:[\\'"/bfnrt]|u[0-9a-fA-F]{4})"""
_STRING = re.compile(rf"""'((?:[^'\\\n\r]|{_ESCAPED})*)'|"((?:[^"\\\n\r]|{_ESCAPED})*)\"""")
_SINGLE = re.compile(r"""\\(.)|(")""")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
_LARGEST = 2**53 - 1
_LONGEST = 17  # characters of an integer
_DEPTH = 100
_T = TypeVar("_T")


def call_list(text: str) -> list[dict[str, Any]]:
    """Name and arguments of every call. Raises ``ValueError`` for any other text."""
    reader = _Reader(text)
    reader.expect("[")
    calls = reader.items("]", reader.call)
    reader.space()
    if reader.at != len(text):
        raise ValueError(f"something behind the list of calls at {reader.at}")
    return calls


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def space(self) -> None:
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def comes(self, *signs: str) -> bool:
        self.space()
        return self.text.startswith(signs, self.at)

    def expect(self, sign: str) -> None:
        if not self.comes(sign):
            raise ValueError(f"no {sign!r} at {self.at}")
        self.at += 1

    def take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        self.space()
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"no {what} at {self.at}")
        self.at = found.end()
        return found

    def items(self, closer: str, item: Callable[[], _T]) -> list[_T]:
        found: list[_T] = []
        while not (not found and self.comes(closer)):
            found.append(item())
            if self.comes(closer):
                break
            self.expect(",")
        self.at += 1
        return found

    def call(self) -> dict[str, Any]:
        name = self.take(_NAME, "name of a function")[0]
        self.expect("(")
        return {"name": name, "arguments": _unique(self.items(")", self.argument))}

    def argument(self) -> tuple[str, Any]:
        key = self.take(_NAME, "keyword")[0]
        self.expect("=")
        return key, self.value(0)

    def member(self, depth: int) -> tuple[str, Any]:
        key = self.string()
        self.expect(":")
        return key, self.value(depth)

    def value(self, depth: int) -> Any:
        """A value inside ``depth`` brackets."""
        if self.comes("'", '"'):
            return self.string()
        if self.comes("[", "{"):
            if depth >= _DEPTH:
                raise ValueError("too many brackets inside each other")
            self.at += 1
            if self.text[self.at - 1] == "[":
                return self.items("]", lambda: self.value(depth + 1))
            return _unique(self.items("}", lambda: self.member(depth + 1)))
        if (found := _NUMBER.match(self.text, self.at)) is not None:
            self.at = found.end()
            return _number(found[0], bool(found["real"]))
        word = self.take(_NAME, "value")[0]
        if word not in _WORDS:
            raise ValueError(f"no value at {self.at - len(word)}")
        return _WORDS[word]

    def string(self) -> str:
        found = self.take(_STRING, "string")
        body = found[1] if found[1] is not None else found[2]
        plain = _SINGLE.sub(lambda sign: "'" if sign[1] == "'" else '\\"' if sign[2] else sign[0], body)
        text = json.loads(f'"{plain}"', strict=False)
        if _SURROGATE.search(text):
            raise ValueError(f"half a character in the string that ends at {self.at}")
        return str(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a name twice among {[key for key, _ in pairs]}")
    return found


def _number(text: str, real: bool) -> int | float:
    if not real and (len(text) > _LONGEST or abs(int(text)) > _LARGEST):
        raise ValueError("an integer that a double cannot hold")
    if real and math.isinf(float(text)):
        raise ValueError("a number that a double cannot hold")
    return float(text) if real else int(text)
