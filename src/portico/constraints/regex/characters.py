r"""What an expression says about one character: itself, an escape, a class (``\d``, ``\p{L}``) or a set (``[a-z]``)."""

from __future__ import annotations

import re
from typing import Literal, NoReturn, TypeAlias

import regex

from portico.constraints.regex.tree import JSON, UnheldError, quoted

Dialect = Literal["ecma", "rust"]
Members: TypeAlias = tuple[str, frozenset[str], bool]  # what stands inside brackets, its escapes, has it letters

DEPTH = 100  # how deep groups and sets may stand in each other
_CLASSES = {
    "ecma": {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\s"},
    "rust": {"d": r"\p{Nd}", "w": r"\w", "s": r"\s"},
}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_POSIX = {  # with the characters of each that JSON spells otherwise below
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "blank": r"\t ", "cntrl": r"\x{0}-\x{1f}\x{7f}", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-\x{2f}:-@\[-`{-~", "space": r"\t\n\x{b}\f\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f", "ascii": r"\x{0}-\x{7f}",
}  # fmt: skip
_POSIX_ESCAPES = {
    "blank": {"\t"}, "cntrl": JSON.keys() - {'"', "\\"}, "graph": {'"', "\\"}, "print": {'"', "\\"},
    "punct": {'"', "\\"}, "space": set("\t\n\v\f\r"), "ascii": set(JSON),
}  # fmt: skip
_LOW_SURROGATE = re.compile(r"\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")
_DIGITS = {
    kind: re.compile(rf"\{{([0-9A-Fa-f]{{1,8}})\}}|([0-9A-Fa-f]{{{count}}})")
    for kind, count in (("x", 2), ("u", 4), ("U", 8))
}


class CharacterReader:
    """A place in a pattern, and how characters are read there. Raises ``UnheldError``."""

    def __init__(self, pattern: str, dialect: Dialect) -> None:
        self.pattern = pattern
        self.dialect = dialect
        self.ecma = dialect == "ecma"
        self.at = 0

    def fail(self, what: str) -> NoReturn:
        raise UnheldError(what)

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self, what: str = "the end of an expression") -> str:
        if self.at >= len(self.pattern):
            self.fail(f"{what} missing")
        self.at += 1
        return self.pattern[self.at - 1]

    def named(self, character: str) -> Members | None:
        r"""What ``\d`` and the like stand for: inside brackets, with its escapes, and whether it has letters."""
        lower = character.lower()
        if lower in _CLASSES[self.dialect]:
            inside = _CLASSES[self.dialect][lower]
            escapes = frozenset("\n\r\t\f\v") if lower == "s" else frozenset()
            if character == lower:
                return inside, escapes, lower == "w"
            negated = inside.upper() if inside.startswith("\\") and inside != r"\p{Nd}" else f"^{inside}"
            negated = r"\P{Nd}" if inside == r"\p{Nd}" else negated
            brackets = f"[{negated}]" if negated[0] == "^" else negated
            return brackets, frozenset(JSON.keys() - escapes), lower != "w"
        if lower == "p":
            name = self.take()
            if name == "{":
                end = self.pattern.find("}", self.at)
                if end < 0:
                    self.fail("the end of a class missing")
                name, self.at = self.pattern[self.at : end], end + 1
            escapes = _of_property(name)
            if character == "P":
                escapes = frozenset(JSON.keys() - escapes)
            return f"\\{character}{{{name}}}", escapes, True
        return None

    def code(self, character: str) -> str:
        """The character that an escape stands for, given what follows the backslash."""
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character == "0" and not self.peek().isdigit():
            return "\0"
        if character == "a" and not self.ecma:
            return "\a"
        if character == "c" and self.ecma and self.peek().isalpha() and self.peek().isascii():
            return chr(ord(self.take()) % 32)
        if character in "xuU":
            return self.hexadecimal(character)
        if character.isalnum():
            self.fail(f"the escape \\{character}" if character.isascii() else "an unknown escape")
        return character

    def hexadecimal(self, kind: str) -> str:
        found = _DIGITS[kind].match(self.pattern, self.at)
        if found is None:
            self.fail(f"the escape \\{kind} without its digits")
        self.at = found.end()
        code = int(found[1] or found[2], 16)
        if 0xD800 <= code < 0xDC00 and (low := _LOW_SURROGATE.match(self.pattern, self.at)):
            self.at = low.end()
            code = 0x10000 + (code - 0xD800) * 0x400 + int(low[1], 16) - 0xDC00
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            self.fail("an escape that is no character")
        return chr(code)

    def members(self, depth: int) -> Members:
        """A set up to and with its closing bracket: how it is written inside brackets, its escapes, its letters."""
        if depth > DEPTH:
            self.fail("too many sets inside each other")
        negated = self.peek() == "^"
        self.at += negated
        pieces: list[str] = []
        escapes: set[str] = set()
        letters = False
        if self.peek() == "]" and self.ecma:  # [] is nothing, [^] is anything
            self.at += 1
            if not negated:
                self.fail("an empty set of characters")
            return r"\s\S", frozenset(JSON), True
        opened = self.at
        while (character := self.take("the end of a set")) != "]" or self.at == opened + 1:
            if not self.ecma and self.pattern[self.at - 1 : self.at + 1] in ("&&", "--", "~~"):
                self.fail("an operation on sets")
            if character == "[" and not self.ecma:
                posix = re.compile(r":(\^?)([a-z]+):\]").match(self.pattern, self.at)
                if posix is not None and posix[2] in _POSIX:
                    self.at = posix.end()
                    some_escapes = _POSIX_ESCAPES.get(posix[2], set())
                    escapes |= JSON.keys() - some_escapes if posix[1] else some_escapes
                    pieces.append(f"[{posix[1]}{_POSIX[posix[2]]}]")
                    letters = True
                    continue
                piece, more, some = self.members(depth + 1)
                pieces.append(f"[{piece}]")
                escapes |= more
                letters |= some
                continue
            first = self.member(character)
            if not isinstance(first, str):
                piece, more, some = first
                pieces.append(piece)
                escapes |= more
                letters |= some
                continue
            last = first
            if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                mark, self.at = self.at, self.at + 1
                after = self.member(self.take())
                if isinstance(after, str):
                    last = after
                else:
                    self.at = mark
            if last < first:
                self.fail("a range that ends before it begins")
            pieces.append(quoted(first) + (f"-{quoted(last)}" if last > first else ""))
            escapes |= {one for one in JSON if first <= one <= last}
            letters |= (first <= "z" and last >= "A") or last > "\x7f"
        written_ = "".join(pieces)
        if not negated:
            return written_, frozenset(escapes), letters
        return f"^{written_}", frozenset(JSON.keys() - escapes), True

    def member(self, character: str) -> str | Members:
        """A character of a set, or a named class in it."""
        if character != "\\":
            return character
        character = self.take()
        if character == "b":
            return "\b"
        if (named := self.named(character)) is not None:
            return named
        return self.code(character)


def _of_property(name: str) -> frozenset[str]:
    """The characters of a Unicode class that JSON spells otherwise; none of a class that is not known."""
    try:
        found = regex.compile(rf"\p{{{name}}}")
    except regex.error:
        return frozenset()
    return frozenset(one for one in JSON if found.match(one))
