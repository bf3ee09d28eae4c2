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
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
from llguidance import regex_to_lark

from portico.constraints.cache import BoundedCache
from portico.constraints.custom import INPUT, KEYWORD, input_grammar
from portico.constraints.limits import Limits
from portico.constraints.schema import normalise
from portico.constraints.schema.size import is_larger
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

__all__ = ["Lark", "field_of", "to_lark"]

WHITE_SPACE = r" |\r?\n(?: {0,40}|\t{0,12})"
_TEXT = "/(?s:.*)/"
_FIELD = "// field: "
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$/]")  # not < and >: escaped, they are word boundaries


class Lark(NamedTuple):
    """A grammar's Lark text; ``left_out`` says in words what of the client's schemas it does not hold."""

    text: str
    left_out: tuple[str, ...]
    enforced: frozenset[str] = frozenset()  # the fields of custom tools' grammars that it does hold


def to_lark(node: Grammar, control_tokens: Mapping[str, int], limits: Limits) -> Lark:
    """A grammar as Lark. ``control_tokens``: the vocabulary's special tokens, name to id.

    Raises ``BadRequestError`` where a schema cannot be held or the result is too large.
    """
    left_out: tuple[str, ...] = ()
    enforced: frozenset[str] = frozenset()
    if isinstance(node, Verbatim):
        text = f"{_FIELD}{node.param}\n{node.lark}\n"
    else:
        writer = _Writer(control_tokens, limits)
        start = writer.expression(node)
        text = "".join(f"{line}\n" for line in (f"start: {start}", *writer.lines))
        left_out, enforced = tuple(writer.left_out), frozenset(writer.enforced)
    if len(text) > limits.lark:
        raise BadRequestError(
            f"The grammar that this request needs is {len(text)} characters long; at most {limits.lark} are allowed.",
            param=field_of(text),
        )
    return Lark(text, left_out, enforced)


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
        self.left_out: dict[str, None] = {}
        self.enforced: set[str] = set()  # the grammars of custom tools, by their fields

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
        if (custom := _of_custom(node.schema)) is not None:
            before, definition, after = custom
            inside = self.custom(definition, node.param, "", as_json=True)
            return f"{_quoted(before)} {inside} {_quoted(after)}"
        text, left_out, _ = _json_text(node, self.limits)
        self.left_out.update(dict.fromkeys(left_out))
        return self.rule("json", f"%json {text}", field=node.param)

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

    def custom(self, definition: str, param: str, stop: str, *, as_json: bool) -> str:
        """The input of a custom tool, and ``stop`` behind it."""
        self.enforced.add(param)
        lark, terminal = input_grammar(definition, param, as_json=as_json)
        token = self._control.match(stop)
        if terminal is not None and stop and not token:
            body = f"({terminal} & ~/(?s:.*){_regex(stop)}(?s:.*)/) {_quoted(stop)}"
            lark, stop = f"start: r_input\nr_input[lazy]: T_INPUT\nT_INPUT: {body}\n{lark}", ""
        elif terminal is not None:
            lark = f"start: {terminal}\n{lark}"
        rule = self.rule("verbatim", f"%lark {{\n{lark}\n}}", field=param)
        return f"{rule} {self.literal(stop)}" if stop else rule

    def text(self, node: Text) -> str:
        """Bare text and its stop: one lazy lexeme, of what length and pattern ask for and what holds no stop."""
        if (definition := node.schema.get(KEYWORD)) is not None:
            return self.custom(definition, node.param, node.stop, as_json=False)
        schema = {key: value for key, value in node.schema.items() if key != "format"}  # not held in bare text
        held, left_out = normalise(schema, param=node.param, strict=node.strict, limits=self.limits)
        self.left_out.update(dict.fromkeys(left_out))
        sizes = (held.get("minLength", 0), held.get("maxLength"))
        characters = f"(?s:.){_times(*sizes)}"
        wanted = [f"/{characters}/"] if sizes != (0, None) else []
        if "pattern" in held:
            wanted.append(f"/{regex_to_lark(held['pattern'][1:-1], '')}/")
        elif not self._control.match(node.stop):
            return self.rule("text", f"/{characters}{_regex(node.stop)}/", options="[lazy]")
        elif not wanted:
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


def _of_custom(schema: Mapping[str, Any] | bool) -> tuple[str, str, str] | None:
    """Where this is the schema of a custom tool's arguments, or of its input alone: the grammar of the input, and the
    JSON in front of it and behind it."""
    if not isinstance(schema, Mapping):
        return None
    before, inside, after = '"', schema, '"'
    if schema.get("type") == "object" and isinstance(schema.get("properties"), Mapping):
        before, inside, after = f'{{"{INPUT}": "', schema["properties"].get(INPUT, {}), '"}'
    found = inside.get(KEYWORD) if isinstance(inside, Mapping) else None
    return (before, found, after) if isinstance(found, str) else None


_texts = BoundedCache[Lark](entries=1024, size=16_000_000)


def _json_text(node: Json, limits: Limits) -> Lark:
    """The schema as the grammar compiler gets it. Tools come with every request of a conversation: remembered."""
    key = None
    if not is_larger(node.schema, limits.schema):
        with suppress(TypeError, ValueError, RecursionError):  # normalising says what is wrong
            key = (msgspec.json.encode(node.schema), node.param, node.strict, node.white_space, limits)
    text = None if key is None else _texts.get(key)
    if text is None:
        held = normalise(node.schema, param=node.param, strict=node.strict, limits=limits)
        white_space = WHITE_SPACE if node.white_space is None else node.white_space
        guidance = {"whitespace_pattern": white_space, "coerce_one_of": True}
        text = Lark(json.dumps({**held.schema, "x-guidance": guidance}, ensure_ascii=False), held.left_out)
        if key is not None:
            _texts.put(key, text, len(key[0]) + 4 * len(text.text))
    return text


def _lazy(stops: list[str]) -> str:
    """A lexeme of any text and then one of ``stops``; as long as the first of them that comes."""
    return f"/(?s:.*)(?:{'|'.join(map(_regex, stops))})/"


def _regex(text: str) -> str:
    """A regular expression for exactly this text, as it stands between slashes."""
    return _SPECIAL.sub(r"\\\g<0>", text).replace("\n", "\\n")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _times(low: int, high: int | None) -> str:
    if (low, high) == (0, None):
        return "*"
    return f"{{{low},{'' if high is None else high}}}"
