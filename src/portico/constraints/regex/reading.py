r"""A regular expression read as a tree, in either dialect."""

from __future__ import annotations

import re
from dataclasses import replace

from portico.constraints.regex.characters import DEPTH, CharacterReader, Dialect
from portico.constraints.regex.tree import (
    JSON,
    Chars,
    Edge,
    Node,
    Options,
    Row,
    Times,
    character_of,
)

_COUNT = re.compile(r"\{(\d{1,9})(,(\d{1,9})?)?\}")
_GROUP = re.compile(r"\?(?:P?<(?![=!])[^>]*>|(?P<flags>[a-zA-Z]*)(?:-(?P<without>[a-zA-Z]+))?(?P<end>[:)]))")
_LOOK = re.compile(r"\?<?[=!]")


def read(pattern: str, dialect: Dialect, flags: str = "") -> Node:
    """The tree of ``pattern``; ``flags`` are letters as in ``/a/i``. Raises ``UnheldError``."""
    return _Reader(pattern, dialect, flags).all()


class _Reader(CharacterReader):
    def __init__(self, pattern: str, dialect: Dialect, flags: str) -> None:
        super().__init__(pattern, dialect)
        self.flags: frozenset[str] = frozenset()
        self.flagged(flags, "")

    def all(self) -> Node:
        node = self.options(0)
        if self.at < len(self.pattern):
            self.fail("an unopened group")
        return node

    def flagged(self, on: str, off: str) -> None:
        if unknown := (set(on) | set(off)) - set("ismuU"):
            self.fail(f"the flag {min(unknown)}")
        self.flags = (self.flags | set(on)) - set(off)

    def options(self, depth: int) -> Node:
        if depth > DEPTH:
            self.fail("too many groups inside each other")
        before = self.flags
        found = [self.row(depth)]
        while self.peek() == "|":
            self.at += 1
            found.append(self.row(depth))
        self.flags = before
        return found[0] if len(found) == 1 else Options(tuple(found))

    def row(self, depth: int) -> Node:
        parts: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            part = self.part(depth)
            if part is not None:
                parts.append(self.repeated(part))
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def part(self, depth: int) -> Node | None:
        character = self.take()
        match character:
            case "(":
                return self.group(depth)
            case "[":
                return self.set_()
            case "\\":
                return self.escape()
            case ".":
                ends = {"\n", "\r"} if self.ecma else {"\n"}
                if "s" in self.flags:
                    return Chars(r"[\s\S]", frozenset(JSON))
                inside = r"[^\x{a}\x{d}\x{2028}\x{2029}]" if self.ecma else r"[^\x{a}]"
                return Chars(inside, frozenset(JSON.keys() - ends))
            case "^" | "$":
                if "m" in self.flags:
                    self.fail("an anchor of lines")
                return Edge(character)
            case "*" | "+" | "?":
                self.fail("nothing to repeat")
            case "{" if not self.ecma:
                self.fail("nothing to repeat")
        return self.folded(character_of(character))

    def folded(self, chars: Chars) -> Chars:
        """The set regardless of case, where the flag says so."""
        if "i" not in self.flags or not chars.letters:
            return chars
        return replace(chars, folded=True)

    def group(self, depth: int) -> Node | None:
        if _LOOK.match(self.pattern, self.at):
            self.fail("look-around")
        before = self.flags
        if self.peek() == "?":
            head = _GROUP.match(self.pattern, self.at)
            if head is None:
                self.fail("a group of a kind that is not supported")
            self.at = head.end()
            self.flagged(head["flags"] or "", head["without"] or "")
            if head["end"] == ")":
                return None  # flags for what follows
        node = self.options(depth + 1)
        if self.take("a closing parenthesis") != ")":
            self.fail("an unclosed group")
        self.flags = before
        return node

    def repeated(self, part: Node) -> Node:
        while True:
            count = _COUNT.match(self.pattern, self.at)
            if (mark := self.peek()) in ("*", "+", "?") and mark:
                self.at += 1
                low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[mark]
            elif count is not None:
                self.at = count.end()
                low = int(count[1])
                high = low if count[2] is None else None if count[3] is None else int(count[3])
                if high is not None and high < low:
                    self.fail("a count that ends before it begins")
            else:
                return part
            if self.peek() == "?":
                self.at += 1  # lazy: the same texts
            if isinstance(part, Edge):
                self.fail("a repeated anchor")
            part = Times(part, low, high)

    # -- characters -----------------------------------------------------------------------------------------------

    def escape(self) -> Node:
        character = self.take()
        if character in "bB":
            self.fail("a word boundary")
        if character in "123456789k":
            self.fail("a back-reference")
        if character in "AzZ" and not self.ecma:
            return Edge("^" if character == "A" else "$")
        if (named := self.named(character)) is not None:
            inside, escapes, letters = named
            return self.folded(Chars(f"[{inside}]", escapes, letters))
        return self.folded(character_of(self.code(character)))

    def set_(self) -> Chars:
        """A set, behind its opening bracket."""
        inside, escapes, letters = self.members(0)
        return self.folded(Chars(f"[{inside}]", escapes, letters))
