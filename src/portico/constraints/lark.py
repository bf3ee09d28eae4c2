r"""A grammar as text in llguidance's dialect of Lark.

Every subtree that is more than an inline literal becomes a rule, equal ones the same rule. JSON is a rule of its own
behind ``%json``, with a comment in front that names the request field it came from, so that an error of the grammar
compiler can be led back to that field.

In that dialect text never matches a special token of the vocabulary, so the names of such tokens inside literals are
written as token numbers. Free text up to a stop is a lazy lexeme; up to a special token it needs no laziness, because
text cannot contain one.

White space inside JSON is limited, else a small model pretty-prints blanks to its token limit: at each place one
space, or one line end and an indentation. Strings are written in the characters that they mean; ``\u`` escapes are for
control characters only (llguidance's default), so that half a surrogate pair cannot come out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property

import msgspec
from llguidance import regex_to_lark

from portico.constraints.cache import BoundedCache
from portico.constraints.limits import Limits
from portico.constraints.schema import normalise
from portico.errors import BadRequestError
from portico.grammar import (
    Anything,
    Chain,
    Exactly,
    Grammar,
    Json,
    OneOf,
    Pattern,
    Prose,
    Repeated,
    Text,
    Until,
    Verbatim,
)

__all__ = ["field_of", "to_lark"]

WHITE_SPACE = r" |\r?\n(?: {0,40}|\t{0,12})"
_TEXT = "/(?s:.*)/"
_FIELD = "// field: "
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$/]")  # not < and >: escaped, they are word boundaries


def to_lark(node: Grammar, control_tokens: Mapping[str, int], limits: Limits) -> str:
    """The Lark text of a grammar. ``control_tokens``: the vocabulary's special tokens, name to id.

    Raises ``BadRequestError`` where a schema cannot be held or the result is too large.
    """
    if isinstance(node, Verbatim):
        text = f"{_FIELD}{node.param}\n{node.lark}\n"
    else:
        writer = _Writer(control_tokens, limits)
        start = writer.expression(node)
        text = "".join(f"{line}\n" for line in (f"start: {start}", *writer.lines))
    if len(text) > limits.lark:
        raise BadRequestError(
            f"The grammar that this request needs is {len(text)} characters long; at most {limits.lark} are allowed.",
            param=field_of(text),
        )
    return text


def field_of(lark: str, line: int | None = None) -> str | None:
    """The request field that line ``line`` (from 1) of a text of ours comes from; without a line, the only one."""
    lines = lark.splitlines()
    fields = [text.removeprefix(_FIELD) for text in lines[:line] if text.startswith(_FIELD)]
    if line is None and len(set(fields)) > 1:
        return None
    return fields[-1] if fields else None


class _Writer:
    def __init__(self, control_tokens: Mapping[str, int], limits: Limits) -> None:
        self.control_tokens = control_tokens
        self.limits = limits
        self.lines: list[str] = []
        self.rules: dict[str, str] = {}  # body -> name

    def expression(self, node: Grammar) -> str:
        """What stands for ``node`` inside a rule."""
        match node:
            case Exactly(text):
                return self.literal(text)
            case Json():
                return self.json(node)
            case Pattern(regex, param):
                return self.rule("PATTERN", f"/{regex_to_lark(regex, '')}/", field=param)
            case Until(stops):
                return self.until(stops)
            case Text():
                return self.text(node)
            case Anything():
                return _TEXT
            case Chain(parts):
                return " ".join(self.operand(part) for part in parts) or '""'
            case OneOf(options):
                return " | ".join(self.operand(option) for option in options)
            case Repeated():
                return self.repeated(node)
            case Verbatim(lark, param):
                return self.rule("verbatim", f"%lark {{\n{lark}\n}}", field=param)
            case Prose():
                return self.prose(node)

    def operand(self, node: Grammar) -> str:
        """The same where it stands next to others."""
        text = self.expression(node)
        if isinstance(node, OneOf) or (isinstance(node, Chain) and len(node.parts) > 1):
            return self.rule("part", text)
        return f"({text})" if isinstance(node, Repeated | Prose) else text

    def rule(self, kind: str, body: str, *, options: str = "", field: str = "") -> str:
        """The name of the rule that has this body."""
        key = f"{kind}{options}:{body}"
        if key not in self.rules:
            name = self.rules[key] = f"{kind}_{len(self.rules)}"
            self.lines += [f"{_FIELD}{field}"] if field else []
            self.lines.append(f"{name}{options}: {body}")
        return self.rules[key]

    def json(self, node: Json) -> str:
        return self.rule("json", f"%json {_json_text(node, self.limits)}", field=node.param)

    @cached_property
    def _control(self) -> re.Pattern[str]:
        names = sorted(self.control_tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)) or "(?!)")

    def literal(self, text: str) -> str:
        """Text, with special tokens as such."""
        words, at = [], 0
        for found in self._control.finditer(text):
            words += [_quoted(text[at : found.start()])] if found.start() > at else []
            words.append(f"<[{self.control_tokens[found[0]]}]>")
            at = found.end()
        words += [_quoted(text[at:])] if at < len(text) or not words else []
        return " ".join(words)

    def until(self, stops: tuple[str, ...]) -> str:
        options = [f"{_TEXT} {self.literal(stop)}" for stop in stops if self._control.match(stop)]
        if texts := [stop for stop in stops if not self._control.match(stop)]:
            options.append(self.rule("until", _lazy(texts), options="[lazy]"))
        return options[0] if len(options) == 1 else f"({' | '.join(options)})"

    def text(self, node: Text) -> str:
        """Bare text and its stop: one lazy lexeme, of what length and pattern ask for and what holds no stop."""
        held = normalise(node.schema, param=node.param, strict=node.strict, limits=self.limits)
        wanted = []
        if "minLength" in held or "maxLength" in held:
            wanted.append(f"/(?s:.){_times(held.get('minLength', 0), held.get('maxLength'))}/")
        if "pattern" in held:
            wanted.append(f"/{regex_to_lark(_searched(held['pattern']), 'dw')}/")
        if not wanted:
            return self.until((node.stop,))
        if self._control.match(node.stop):
            return f"{self.rule('TEXT', ' & '.join(wanted), field=node.param)} {self.literal(node.stop)}"
        wanted.append(f"~/(?s:.*){_regex(node.stop)}(?s:.*)/")
        body = self.rule("TEXT", f"({' & '.join(wanted)}) {_quoted(node.stop)}", field=node.param)
        return self.rule("text", body, options="[lazy]")

    def repeated(self, node: Repeated) -> str:
        if node.high == 0:
            return '""'
        part = self.operand(node.part)
        if not node.separator or node.high == 1:
            return f"({part}){_times(node.low, node.high)}"
        more = None if node.high is None else node.high - 1
        several = f"({part}) ({self.literal(node.separator)} ({part})){_times(max(node.low - 1, 0), more)}"
        return several if node.low else f"({several})?"

    def prose(self, node: Prose) -> str:
        calls = " | ".join(f"{self.until((opener,))} {self.operand(rest)}" for opener, rest in node.rest)
        if node.once:
            return f"({calls}) | {_TEXT}"
        return f"({calls})* {_TEXT}"


_texts = BoundedCache[str](entries=1024, size=16_000_000)


def _json_text(node: Json, limits: Limits) -> str:
    """The schema as the grammar compiler gets it. Tools come with every request of a conversation: remembered."""
    try:
        key = (msgspec.json.encode(node.schema), node.strict, node.white_space, limits)
    except (TypeError, ValueError, RecursionError):
        key = None  # not JSON: normalising says so
    text = None if key is None else _texts.get(key)
    if text is None:
        schema = normalise(node.schema, param=node.param, strict=node.strict, limits=limits)
        schema["x-guidance"] = {
            "whitespace_pattern": WHITE_SPACE if node.white_space is None else node.white_space,
            "coerce_one_of": True,
        }
        text = json.dumps(schema, ensure_ascii=False)
        if key is not None:
            _texts.put(key, text, len(key[0]) + 4 * len(text))
    return text


def _lazy(stops: list[str]) -> str:
    """A lexeme of any text and then one of ``stops``; as long as the first of them that comes."""
    return f"/(?s:.*)(?:{'|'.join(map(_regex, stops))})/"


def _regex(text: str) -> str:
    """A regular expression for exactly this text, as it stands between slashes."""
    return _SPECIAL.sub(r"\\\g<0>", text).replace("\n", "\\n")


def _searched(pattern: str) -> str:
    """A pattern that JSON Schema looks for anywhere in a string, as one for the whole string."""
    options = []
    for option in _alternatives(pattern):
        begins, ends = option.startswith("^"), option.endswith("$") and not option.endswith("\\$")
        inside = option[begins : len(option) - ends]
        options.append(f"{'' if begins else '(?s:.*)'}(?:{inside}){'' if ends else '(?s:.*)'}")
    return "|".join(options)


def _alternatives(pattern: str) -> list[str]:
    """A pattern split at the bars that stand outside of everything."""
    found, depth = [""], 0
    for piece in re.findall(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", pattern, re.DOTALL):
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and not depth:
            found.append("")
        else:
            found[-1] += piece
    return found


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _times(low: int, high: int | None) -> str:
    if (low, high) == (0, None):
        return "*"
    return f"{{{low},{'' if high is None else high}}}"
