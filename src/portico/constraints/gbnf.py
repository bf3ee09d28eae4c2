"""GBNF, llama.cpp's and xgrammar's EBNF, as Lark.

    root  ::= "I am " name "."
    name  ::= [A-Z] [a-z]{1,20}

A rule ends with its line, unless the line stands inside parentheses or the next thing would be an alternative.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from portico.constraints import rules
from portico.constraints.rules import Choice, Lexeme, Name, Node, Repeat, Sequence, Special
from portico.errors import BadRequestError

__all__ = ["is_gbnf", "to_lark"]

_RULE = re.compile(r"^[ \t]*[A-Za-z0-9_-]+\s*::=", re.MULTILINE)
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<define>(?P<defined>[A-Za-z0-9_-]+)\s*::=)
      | (?P<name>[A-Za-z0-9_-]+)
      | (?P<literal>"(?:[^"\\\n]|\\.)*")
      | (?P<set>\[(?:[^\]\\\n]|\\.)*\])
      | (?P<special><[^<>\s]+>)
      | (?P<count>\{\s*(?P<low>\d+)\s*(?P<range>,\s*(?P<high>\d+)?\s*)?\})
      | (?P<mark>[()|*+?.])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"""\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))""", re.DOTALL)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}
_DEPTH = 100


def is_gbnf(text: str) -> bool:
    """Whether ``text`` is written in GBNF; if not, it should be Lark."""
    return _RULE.search(text) is not None


def to_lark(text: str, param: str) -> str:
    """The Lark grammar that says the same.

    Raises ``BadRequestError`` on ``param``, naming the line, for what is no GBNF.
    """
    return rules.to_lark(_Reader(text, param).rules(), "root")


class _Reader:
    def __init__(self, text: str, param: str) -> None:
        self.text = text
        self.param = param
        self.tokens: list[re.Match[str]] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                self.fail("is not GBNF", at)
            at = found.end()
            if found.lastgroup != "space":
                self.tokens.append(found)
        self.at = 0

    def fail(self, problem: str, offset: int | None = None) -> NoReturn:
        if offset is None:
            offset = self.tokens[self.at].start() if self.at < len(self.tokens) else len(self.text)
        line = self.text.count("\n", 0, offset) + 1
        raise BadRequestError(f"{self.param}: line {line} {problem}.", param=self.param, code="invalid_grammar")

    def peek(self) -> str:
        """The kind of the next token: its group's name, or the mark itself; empty at the end."""
        if self.at == len(self.tokens):
            return ""
        token = self.tokens[self.at]
        return token[0] if token["mark"] else next(kind for kind in _KINDS if token[kind])

    def skip_lines(self) -> None:
        while self.peek() == "newline":
            self.at += 1

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self.skip_lines()
        while self.peek():
            if self.peek() != "define":
                self.fail("should begin a rule: name ::= …")
            name = self.tokens[self.at]["defined"]
            if name in found:
                self.fail(f"defines {name[:80]!r} again")
            self.at += 1
            self.skip_lines()
            found[name] = self.choice(0)
            if self.peek() not in ("newline", ""):
                self.fail("has something that does not fit there")
            self.skip_lines()
        if "root" not in found:
            self.fail("is missing: a grammar has a rule named root", len(self.text))
        for name, body in found.items():
            if missing := {one for one in rules.mentions(body) if one is not None} - found.keys():
                raise BadRequestError(
                    f"{self.param}: the rule {name[:80]!r} names {min(missing)[:80]!r}, which is not defined.",
                    param=self.param,
                    code="invalid_grammar",
                )
        return found

    def choice(self, depth: int) -> Node:
        if depth > _DEPTH:
            self.fail(f"is nested deeper than {_DEPTH} levels")
        options = [self.sequence(depth)]
        while self._alternative():
            self.skip_lines()
            options.append(self.sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _alternative(self) -> bool:
        """Take a bar, also one that begins a later line."""
        before = self.at
        self.skip_lines()
        if self.peek() == "|":
            self.at += 1
            return True
        self.at = before
        return False

    def sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while (part := self.part(depth)) is not None:
            parts.append(self.repeated(part))
            if depth:
                self.skip_lines()
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def part(self, depth: int) -> Node | None:
        kind = self.peek()
        token = self.tokens[self.at] if kind else None
        if token is None or kind not in ("literal", "set", "special", "name", ".", "("):
            return None
        self.at += 1
        match kind:
            case "literal":
                return Lexeme(json.dumps(self.unescaped(token[0][1:-1], token.start()), ensure_ascii=False))
            case "set":
                return Lexeme(self.set(token[0][1:-1], token.start()))
            case "special":
                return Special(token[0])
            case "name":
                return Name(token[0])
            case ".":
                return Lexeme("/(?s:.)/")
        self.skip_lines()
        inner = self.choice(depth + 1)
        self.skip_lines()
        if self.peek() != ")":
            self.fail("is missing a closing parenthesis")
        self.at += 1
        return inner

    def repeated(self, part: Node) -> Node:
        while (kind := self.peek()) in ("*", "+", "?", "count"):
            token = self.tokens[self.at]
            times = kind
            if kind == "count":
                low, high = token["low"], token["high"] or ""
                times = f"{{{low},{high}}}" if token["range"] else f"{{{low}}}"
            self.at += 1
            part = Repeat(part, times)
        return part

    def unescaped(self, text: str, offset: int) -> str:
        return "".join(self.characters(text, offset))

    def characters(self, text: str, offset: int) -> list[str]:
        """The characters that a literal or a set spells."""
        found, at = [], 0
        while at < len(text):
            if text[at] != "\\":
                found.append(text[at])
                at += 1
                continue
            escape = _ESCAPE.match(text, at)
            if escape is None:
                self.fail("ends in the middle of an escape", offset)
            code = escape[1] or escape[2] or escape[3]
            if code and (int(code, 16) > 0x10FFFF or 0xD800 <= int(code, 16) < 0xE000):
                self.fail(f"has an escape that is no character: \\{code}", offset)
            if not code and escape[4] not in (*_NAMED, *'\\"[]-^/'):
                self.fail(f"has an unknown escape: \\{escape[4]}", offset)
            found.append(chr(int(code, 16)) if code else _NAMED.get(escape[4], escape[4]))
            at = escape.end()
        return found

    def set(self, text: str, offset: int) -> str:
        """A set of characters as a regular expression, every character by number."""
        negated = text.startswith("^")
        pieces = re.findall(r"\\(?:x..|u....|U........|.)|.", text[negated:], re.DOTALL)
        characters = [self.unescaped(piece, offset) for piece in pieces]
        if not characters:
            self.fail("has an empty set of characters", offset)
        ranges, at = "", 0
        while at < len(characters):
            first = last = characters[at]
            if at + 2 < len(characters) and pieces[at + 1] == "-":
                last = characters[at + 2]
                at += 2
            if last < first:
                self.fail("has a range that ends before it begins", offset)
            ranges += f"\\x{{{ord(first):x}}}" + (f"-\\x{{{ord(last):x}}}" if last > first else "")
            at += 1
        return f"/[{'^' if negated else ''}{ranges}]/"


_KINDS = ("newline", "define", "name", "literal", "set", "special", "count")
