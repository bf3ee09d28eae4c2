"""Structural tags, the JSON form of grammars that vLLM and xgrammar speak: read from requests, written for engines.

The format is xgrammar's (https://xgrammar.mlc.ai/docs/tutorials/structural_tag.html); the older form of vLLM, a list of
``structures`` with ``triggers``, is read too. Written is everything but a client's own Lark grammar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from portico.constraints import gbnf
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

__all__ = ["read", "write"]

_DEPTH = 32
_Tag: TypeAlias = tuple[str, Grammar, tuple[str, ...]]  # begin, content, ends


# -- writing ----------------------------------------------------------------------------------------------------------


def write(node: Grammar, limits: Limits) -> dict[str, Any] | None:
    """The structural tag of a grammar, or None where a part of it has no such form."""
    try:
        return {"type": "structural_tag", "format": _written(node, replace(limits, bounded=False))}
    except _NoSuchForm:
        return None


class _NoSuchForm(Exception):
    pass


def _written(node: Grammar, limits: Limits) -> dict[str, Any]:
    match node:
        case Exactly(text):
            return {"type": "const_string", "value": text}
        case Json(schema, param, strict):
            held = normalise(schema, param=param, strict=strict, limits=limits).schema
            return {"type": "json_schema", "json_schema": held}
        case Pattern(regex):
            return {"type": "regex", "pattern": regex}
        case Until(stops):
            return {"type": "tag", "begin": "", "content": {"type": "any_text"}, "end": list(stops)}
        case Text(_, stop):  # length and pattern have no form there
            return _written(Until((stop,)), limits)
        case Anything():
            return {"type": "any_text"}
        case Chain(()):
            return {"type": "const_string", "value": ""}
        case Chain(parts):
            return {"type": "sequence", "elements": [_written(part, limits) for part in parts]}
        case OneOf(options):
            return {"type": "or", "elements": [_written(option, limits) for option in options]}
        case Repeated():
            return _repeated(node, limits)
        case Prose(rest, once):
            rules = [[opener, _written(then, limits)] for opener, then in rest]
            return {"type": "dispatch", "rules": rules, "loop": not once}
        case Verbatim():
            raise _NoSuchForm


def _repeated(node: Repeated, limits: Limits) -> dict[str, Any]:
    if node.high == 0:
        return _written(Chain(()), limits)
    part = _written(node.part, limits)
    if not node.separator or node.high == 1:
        return _times(part, node.low, node.high)
    following = {"type": "sequence", "elements": [{"type": "const_string", "value": node.separator}, part]}
    more = None if node.high is None else node.high - 1
    whole = {"type": "sequence", "elements": [part, _times(following, max(node.low - 1, 0), more)]}
    return whole if node.low else {"type": "optional", "content": whole}


def _times(content: dict[str, Any], low: int, high: int | None) -> dict[str, Any]:
    if (low, high) == (1, 1):
        return content
    names = {(0, None): "star", (1, None): "plus", (0, 1): "optional"}
    if name := names.get((low, high)):
        return {"type": name, "content": content}
    return {"type": "repeat", "min": low, "max": -1 if high is None else high, "content": content}


# -- reading ----------------------------------------------------------------------------------------------------------


def read(tag: Mapping[str, Any], param: str, limits: Limits) -> Grammar:
    """The grammar of a structural tag. Raises ``BadRequestError`` on ``param`` for what is none, or not supported."""
    reader = _Reader(param, limits)
    if isinstance(tag.get("format"), Mapping):
        return reader.format(tag["format"], "format", 0)
    if "structures" in tag:
        return reader.structures(tag)
    raise reader.bad("must have a 'format', or 'structures' with 'triggers'")


class _Reader:
    def __init__(self, param: str, limits: Limits) -> None:
        self.param = param
        self.limits = limits

    def bad(self, problem: str) -> BadRequestError:
        return BadRequestError(f"{self.param} {problem}.", param=self.param, code="invalid_structural_tag")

    def structures(self, tag: Mapping[str, Any]) -> Grammar:
        """The older form: text with tags in it, each around a schema."""
        tags: list[_Tag] = []
        for index, one in enumerate(self.list(tag, "structures", "")):
            where = f"structures[{index}]"
            if not isinstance(one, Mapping) or not isinstance(one.get("schema"), Mapping):
                raise self.bad(f"must have a 'schema' object in {where}")
            schema = Json(one["schema"], self.param)
            tags.append((self.text(one, "begin", where), schema, (self.text(one, "end", where),)))
        return self.triggered(self.strings(tag, "triggers", ""), tags, at_least_one=False, once=False)

    def format(self, form: Any, where: str, depth: int) -> Grammar:
        if not isinstance(form, Mapping):
            raise self.bad(f"must have an object in {where}")
        if depth > _DEPTH:
            raise self.bad(f"is nested deeper than {_DEPTH} levels")
        match form.get("type"):
            case "const_string":
                return Exactly(self.text(form, "value", where))
            case "json_schema":
                schema = form.get("json_schema")
                if form.get("style", "json") != "json" or not isinstance(schema, Mapping | bool):
                    raise self.bad(f"must have a 'json_schema' of style json in {where}")
                return Json(schema, self.param)
            case "regex":
                return Pattern(self.text(form, "pattern", where), self.param)
            case "grammar":
                return Verbatim(gbnf.to_lark(self.text(form, "grammar", where), self.param), self.param)
            case "any_text":
                if form.get("excludes"):
                    raise self.bad(f"has 'excludes' in {where}, which is not supported; end the text with a tag")
                return Anything()
            case "sequence" | "or" as kind:
                elements = self.list(form, "elements", where)
                parts = tuple(self.format(one, f"{where}.elements[{i}]", depth + 1) for i, one in enumerate(elements))
                return OneOf(parts) if kind == "or" else _chain(parts)
            case "optional" | "star" | "plus" | "repeat" as kind:
                low, high = {"optional": (0, 1), "star": (0, None), "plus": (1, None)}.get(kind) or self.range(
                    form, where
                )
                return Repeated(self.format(form.get("content"), f"{where}.content", depth + 1), low, high)
            case "tag":
                begin, content, ends = self.tag(form, where, depth)
                return _tag(begin, content, ends)
            case "triggered_tags":
                return self.triggered(
                    self.strings(form, "triggers", where),
                    self.tags(form, where, depth),
                    at_least_one=form.get("at_least_one") is True,
                    once=form.get("stop_after_first") is True,
                )
            case "dispatch":
                rules = self.list(form, "rules", where)
                if not all(isinstance(rule, list) and len(rule) == 2 and isinstance(rule[0], str) for rule in rules):
                    raise self.bad(f"must have [text, format] pairs in {where}.rules")
                rest = tuple(
                    (opener, self.format(then, f"{where}.rules[{index}]", depth + 1))
                    for index, (opener, then) in enumerate(rules)
                )
                return Prose(rest, once=form.get("loop") is False)
            case "tags_with_separator":
                tags = OneOf(tuple(_tag(*one) for one in self.tags(form, where, depth)))
                high = 1 if form.get("stop_after_first") is True else None
                low = 1 if form.get("at_least_one") is True else 0
                return Repeated(tags, low, high, self.text(form, "separator", where))
        raise self.bad(f"has a type in {where} that is not supported")

    def tag(self, form: Any, where: str, depth: int) -> _Tag:
        if not isinstance(form, Mapping):
            raise self.bad(f"must have an object in {where}")
        ends = [form.get("end")] if isinstance(form.get("end"), str) else self.list(form, "end", where)
        if not all(isinstance(end, str) for end in ends):
            raise self.bad(f"must have strings in {where}.end")
        content = self.format(form.get("content"), f"{where}.content", depth + 1)
        return self.text(form, "begin", where), content, tuple(str(end) for end in ends)

    def tags(self, form: Mapping[str, Any], where: str, depth: int) -> list[_Tag]:
        found = self.list(form, "tags", where)
        return [self.tag(one, f"{where}.tags[{index}]", depth + 1) for index, one in enumerate(found)]

    def triggered(self, triggers: list[str], tags: list[_Tag], *, at_least_one: bool, once: bool) -> Grammar:
        rest: dict[str, list[Grammar]] = {}
        for begin, content, ends in tags:
            trigger = next((one for one in triggers if begin.startswith(one)), None)
            if not trigger:
                raise self.bad("has a tag whose 'begin' starts with none of the triggers")
            rest.setdefault(trigger, []).append(_tag(begin[len(trigger) :], content, ends))
        paired = tuple((trigger, OneOf(tuple(options))) for trigger, options in rest.items())
        if not at_least_one:
            return Prose(paired, once)
        first = OneOf(tuple(Chain((Until((trigger,)), options)) for trigger, options in paired))
        return first if once else Chain((first, Prose(paired)))

    def range(self, form: Mapping[str, Any], where: str) -> tuple[int, int | None]:
        low, high = form.get("min"), form.get("max")
        if type(low) is not int or type(high) is not int or low < 0 or max(low, high) > 10_000 or -1 < high < low:
            raise self.bad(f"must have whole numbers 'min' and 'max' in {where}, at most 10000; -1 for no maximum")
        return low, None if high < 0 else high

    def text(self, form: Mapping[str, Any], key: str, where: str) -> str:
        value = form.get(key)
        if not isinstance(value, str) or len(value) > self.limits.grammar:
            raise self.bad(f"must have a string in {where}.{key}")
        return value

    def strings(self, form: Mapping[str, Any], key: str, where: str) -> list[str]:
        values = self.list(form, key, where)
        if not all(isinstance(value, str) and value for value in values):
            raise self.bad(f"must have strings in {where}.{key}")
        return values

    def list(self, form: Mapping[str, Any], key: str, where: str) -> list[Any]:
        value = form.get(key)
        if not isinstance(value, list) or not 0 < len(value) <= self.limits.choices:
            raise self.bad(f"must have a list of 1 to {self.limits.choices} entries in {where}.{key}")
        return value


def _tag(begin: str, content: Grammar, ends: tuple[str, ...]) -> Grammar:
    """``begin content end``; text inside runs up to the first end."""
    inside: tuple[Grammar, ...]
    if isinstance(content, Anything):
        inside = (Until(ends),) if all(ends) else (content,)
    else:
        inside = (content, OneOf(tuple(Exactly(end) for end in ends)))
    return Chain((Exactly(begin), *inside) if begin else inside)


def _chain(parts: tuple[Grammar, ...]) -> Grammar:
    """A sequence; text in front of a constant runs up to its first occurrence."""
    joined: list[Grammar] = []
    for part in parts:
        if joined and isinstance(joined[-1], Anything) and isinstance(part, Exactly) and part.text:
            joined[-1] = Until((part.text,))
        else:
            joined.append(part)
    return Chain(tuple(joined))
