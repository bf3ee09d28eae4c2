r"""Regular expressions: read as a tree, written as what llguidance understands.

Two dialects are read. ``ecma`` is that of JSON Schema's ``pattern``: ``\d`` and ``\w`` are ASCII, and the pattern may
match anywhere in the string. ``rust`` is that of clients who write for llguidance: Unicode classes, flags, sets inside
sets, and the whole text has to match. Anchors are made sense of (``^a|b$``), so what is written has none.

What a grammar cannot hold (look-around, word boundaries, back-references) is told with ``UnheldError``.

    whole(read(r"^a\d", "ecma"))   a, a digit, and anything
    written(tree)                  in the characters that it matches
    written(tree, as_json=True)    in the spelling that these characters have inside a JSON string
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal, NoReturn, TypeAlias

__all__ = [
    "NARROW",
    "Chars",
    "Dialect",
    "Node",
    "Row",
    "UnheldError",
    "bounded",
    "exact",
    "literal",
    "read",
    "whole",
    "written",
]

Dialect = Literal["ecma", "rust"]
NARROW = 256  # how often something without letters may be repeated that a pattern repeats without end
_DEPTH = 100

# What stands inside a JSON string in another spelling than its own, as ``json.dumps`` spells it.
_JSON = {chr(code): f"\\u{code:04x}" for code in range(0x20)}
_JSON |= {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
_PLAIN = r'[^"\\\x{0}-\x{1f}]'
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
    "blank": {"\t"}, "cntrl": _JSON.keys() - {'"', "\\"}, "graph": {'"', "\\"}, "print": {'"', "\\"},
    "punct": {'"', "\\"}, "space": set("\t\n\v\f\r"), "ascii": set(_JSON),
}  # fmt: skip


class UnheldError(Exception):
    """No grammar holds this expression; the words name what it has."""


@dataclass(frozen=True)
class Chars:
    """One character out of a set. ``set_`` is how Rust writes it, in brackets where it is not a single one;
    ``escapes`` are those of the set that a JSON string spells otherwise; ``letters``: it has some; ``folded``: in
    either case."""

    set_: str
    escapes: frozenset[str] = frozenset()
    letters: bool = True
    folded: bool = False


@dataclass(frozen=True)
class Edge:
    """The beginning (``^``) or the end (``$``) of the string."""

    mark: str


@dataclass(frozen=True)
class Row:
    """One part after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Options:
    options: tuple[Node, ...]


@dataclass(frozen=True)
class Times:
    part: Node
    low: int
    high: int | None


Node: TypeAlias = "Chars | Edge | Row | Options | Times"
_ANYTHING = Times(Chars(r"[\s\S]", frozenset(_JSON)), 0, None)


def read(pattern: str, dialect: Dialect, flags: str = "") -> Node:
    """The tree of ``pattern``; ``flags`` are letters as in ``/a/i``. Raises ``UnheldError``."""
    return _Reader(pattern, dialect, flags).all()


def literal(text: str) -> Node:
    """The expression for this text."""
    return Row(tuple(_character(character) for character in text))


def whole(node: Node) -> Node:
    """The expression for all strings in which ``node`` is found: without anchors. Raises ``UnheldError``."""
    return _unanchored(_unanchored(node, "^", _ANYTHING), "$", _ANYTHING)


def exact(node: Node) -> Node:
    """The expression for all strings that ``node`` matches from end to end: without anchors."""
    return _unanchored(_unanchored(node, "^", Row(())), "$", Row(()))


def bounded(node: Node, narrow: int = NARROW, wide: int | None = None) -> Node:
    """The same, but what repeats digits, signs or blanks without end does so ``narrow`` times: models run on there.
    What repeats anything else does so ``wide`` times (None: without end)."""
    match node:
        case Row(parts):
            return Row(tuple(bounded(part, narrow, wide) for part in parts))
        case Options(options):
            return Options(tuple(bounded(option, narrow, wide) for option in options))
        case Times(part, low, None) if not _has_letters(part):
            return Times(bounded(part, narrow, wide), low, max(low, narrow))
        case Times(part, low, None) if wide is not None:
            return Times(bounded(part, narrow, wide), low, max(low, wide))
        case Times(part):
            return replace(node, part=bounded(part, narrow, wide))
    return node


def _has_letters(node: Node) -> bool:
    match node:
        case Chars():
            return node.letters
        case Row(inside) | Options(inside):
            return any(map(_has_letters, inside))
        case Times(part):
            return _has_letters(part)
    return False


def written(node: Node, *, as_json: bool = False) -> str:
    """The expression in Rust's syntax, to stand alone or in a group. ``node`` has no anchors."""
    match node:
        case Chars():
            text = _spelled(node) if as_json else node.set_
            return f"(?i:{text})" if node.folded else text
        case Row(parts):
            return "".join(_grouped(part, as_json) if isinstance(part, Options) else written(part, as_json=as_json)
                           for part in parts)  # fmt: skip
        case Options(options):
            return "|".join(written(option, as_json=as_json) for option in options)
        case Times(part, low, high):
            marks = {(0, None): "*", (1, None): "+", (0, 1): "?"}
            count = f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}"
            inside = written(part) if isinstance(part, Chars) and not as_json else _grouped(part, as_json)
            return f"{inside}{marks.get((low, high), count)}"
    raise UnheldError("an anchor inside")


# -- writing ----------------------------------------------------------------------------------------------------------


def _grouped(node: Node, as_json: bool) -> str:
    return f"(?:{written(node, as_json=as_json)})"


def _spelled(chars: Chars) -> str:
    """The characters of a set as a JSON string spells them."""
    if not chars.escapes:
        return chars.set_
    single = not chars.set_.startswith("[")
    spellings = [] if single else [f"[{chars.set_}&&{_PLAIN}]"]
    short = "".join(_quoted(_JSON[one][1]) for one in sorted(chars.escapes) if len(_JSON[one]) == 2)
    spellings += [rf"\\[{short}]"] if short else []
    for digit in "01":
        if last := "".join(_JSON[one][-1] for one in sorted(chars.escapes) if _JSON[one].startswith(f"\\u00{digit}")):
            spellings.append(rf"\\u00{digit}[{last}]")
    return spellings[0] if len(spellings) == 1 else f"(?:{'|'.join(spellings)})"


def _quoted(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    return f"\\x{{{ord(character):x}}}"


def _character(character: str) -> Chars:
    escapes = frozenset(character) & _JSON.keys()
    return Chars(_quoted(character), frozenset(escapes), character.isalpha())


# -- anchors ----------------------------------------------------------------------------------------------------------


def _has(node: Node, mark: str) -> bool:
    match node:
        case Edge():
            return node.mark == mark
        case Row(inside) | Options(inside):
            return any(_has(one, mark) for one in inside)
        case Times(part):
            return _has(part, mark)
    return False


def _unanchored(node: Node, mark: str, beyond: Node) -> Node:
    """``node`` without its anchor at one end (``^`` or ``$``); where it has none, with ``beyond`` there."""
    match node:
        case Edge() if node.mark == mark:
            return Row(())
        case Options(options):
            return Options(tuple(_unanchored(option, mark, beyond) for option in options))
        case Row(parts) if _has(node, mark):
            first, rest = (parts[0], parts[1:]) if mark == "^" else (parts[-1], parts[:-1])
            if any(_has(part, mark) for part in rest):
                raise UnheldError("an anchor in the middle")
            edge = _unanchored(first, mark, beyond)
            return Row((edge, *rest) if mark == "^" else (*rest, edge))
    return Row((beyond, node) if mark == "^" else (node, beyond))


# -- reading ----------------------------------------------------------------------------------------------------------

_COUNT = re.compile(r"\{(\d{1,9})(,(\d{1,9})?)?\}")
_GROUP = re.compile(r"\?(?:P?<(?![=!])[^>]*>|(?P<flags>[a-zA-Z]*)(?:-(?P<without>[a-zA-Z]+))?(?P<end>[:)]))")
_LOOK = re.compile(r"\?<?[=!]")
_LOW_SURROGATE = re.compile(r"\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")
_DIGITS = {
    kind: re.compile(rf"\{{([0-9A-Fa-f]{{1,8}})\}}|([0-9A-Fa-f]{{{count}}})")
    for kind, count in (("x", 2), ("u", 4), ("U", 8))
}


class _Reader:
    def __init__(self, pattern: str, dialect: Dialect, flags: str) -> None:
        self.pattern = pattern
        self.dialect = dialect
        self.ecma = dialect == "ecma"
        self.at = 0
        self.flags: frozenset[str] = frozenset()
        self.flagged(flags, "")

    def all(self) -> Node:
        node = self.options(0)
        if self.at < len(self.pattern):
            self.fail("an unopened group")
        return node

    def fail(self, what: str) -> NoReturn:
        raise UnheldError(what)

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self, what: str = "the end of an expression") -> str:
        if self.at >= len(self.pattern):
            self.fail(f"{what} missing")
        self.at += 1
        return self.pattern[self.at - 1]

    def flagged(self, on: str, off: str) -> None:
        if unknown := (set(on) | set(off)) - set("ismuU"):
            self.fail(f"the flag {min(unknown)}")
        self.flags = (self.flags | set(on)) - set(off)

    def options(self, depth: int) -> Node:
        if depth > _DEPTH:
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
                    return Chars(r"[\s\S]", frozenset(_JSON))
                inside = r"[^\x{a}\x{d}\x{2028}\x{2029}]" if self.ecma else r"[^\x{a}]"
                return Chars(inside, frozenset(_JSON.keys() - ends))
            case "^" | "$":
                if "m" in self.flags:
                    self.fail("an anchor of lines")
                return Edge(character)
            case "*" | "+" | "?":
                self.fail("nothing to repeat")
            case "{" if not self.ecma:
                self.fail("nothing to repeat")
        return self.folded(_character(character))

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
        return self.folded(_character(self.code(character)))

    def named(self, character: str) -> tuple[str, frozenset[str], bool] | None:
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
            return brackets, frozenset(_JSON.keys() - escapes), lower != "w"
        if lower == "p":
            name = self.take()
            if name == "{":
                end = self.pattern.find("}", self.at)
                if end < 0:
                    self.fail("the end of a class missing")
                name, self.at = self.pattern[self.at : end], end + 1
            escapes = _of_property(name)
            if character == "P":
                escapes = frozenset(_JSON.keys() - escapes)
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

    def set_(self) -> Chars:
        """A set, behind its opening bracket."""
        inside, escapes, letters = self.members(0)
        return self.folded(Chars(f"[{inside}]", escapes, letters))

    def members(self, depth: int) -> tuple[str, frozenset[str], bool]:
        """A set up to and with its closing bracket: how it is written inside brackets, its escapes, its letters."""
        if depth > _DEPTH:
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
            return r"\s\S", frozenset(_JSON), True
        opened = self.at
        while (character := self.take("the end of a set")) != "]" or self.at == opened + 1:
            if not self.ecma and self.pattern[self.at - 1 : self.at + 1] in ("&&", "--", "~~"):
                self.fail("an operation on sets")
            if character == "[" and not self.ecma:
                posix = re.compile(r":(\^?)([a-z]+):\]").match(self.pattern, self.at)
                if posix is not None and posix[2] in _POSIX:
                    self.at = posix.end()
                    some_escapes = _POSIX_ESCAPES.get(posix[2], set())
                    escapes |= _JSON.keys() - some_escapes if posix[1] else some_escapes
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
            pieces.append(_quoted(first) + (f"-{_quoted(last)}" if last > first else ""))
            escapes |= {one for one in _JSON if first <= one <= last}
            letters |= (first <= "z" and last >= "A") or last > "\x7f"
        written_ = "".join(pieces)
        if not negated:
            return written_, frozenset(escapes), letters
        return f"^{written_}", frozenset(_JSON.keys() - escapes), True

    def member(self, character: str) -> str | tuple[str, frozenset[str], bool]:
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
    """The characters of a Unicode class that JSON spells otherwise."""
    short = {"other": "C", "control": "Cc", "punctuation": "P", "other_punctuation": "Po", "letter": "L", "number": "N",
             "symbol": "S", "separator": "Z", "mark": "M"}  # fmt: skip
    plain = name.removeprefix("gc=").removeprefix("General_Category=").replace(" ", "_")
    category = short.get(plain.lower(), plain)
    if category.lower() in ("any", "ascii", "assigned"):
        return frozenset(_JSON)
    return frozenset(one for one in _JSON if unicodedata.category(one).startswith(category[:2].capitalize()))
