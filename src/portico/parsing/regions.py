"""The regions that a ``response_template`` names: where one begins and ends, and what its content amounts to.

Openers and closers may be regular expressions, so whether text at the end of what has come could still become one is
asked of the ``regex`` library, which matches partially.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import regex

from portico.parsing.call_list import call_list

__all__ = ["Match", "Region", "Regions", "regions"]

_KEYS = frozenset(
    ("open", "open_pattern", "close", "close_pattern", "content", "content_args", "repeats", "join", "optional",
     "transform", "transform_each")
)  # fmt: skip
_TEXT = ("text", "int", "float", "bool")
_KINDS = (*_TEXT, "json", "xml-inline", "kv-lines", "python-call-list")
_PLACE = regex.compile(r"\{(\w+(?:\.\w+)*)\}")
_BARE_KEY = regex.compile(r'"(?:\\.|[^"\\])*"|(?<=[{,])(\s*)(\w+)(\s*):')


@dataclass(frozen=True)
class Anchor:
    """What a region begins or ends with. ``literals``: the spellings, where it is no pattern."""

    pattern: Any
    literals: tuple[str, ...] | None

    def may_grow(self, found: Any, text: str) -> bool:
        """Whether more text could change this match, which is complete."""
        if found.end() < len(text):
            if self.literals is not None:
                return False
            again = self.pattern.match(text + "\0", found.start())
            return again is None or again.span() != found.span() or again.groupdict() != found.groupdict()
        if found.start() == found.end() or self.literals is None:
            return True
        return any(a != b and a.startswith(b) for a in self.literals for b in self.literals)


@dataclass(frozen=True, eq=False)
class Region:
    """One field of the message."""

    name: str
    opener: Anchor | None
    closer: Anchor | None
    kind: str = "text"
    options: Mapping[str, Any] = field(default_factory=dict)
    join: str = ""
    transform: Any = None
    each: bool = False

    @property
    def is_text(self) -> bool:
        return self.kind in _TEXT

    @property
    def strips(self) -> bool:
        return bool(self.options.get("strip", True))

    @property
    def literals(self) -> tuple[str, ...]:
        return tuple(word for one in (self.opener, self.closer) if one and one.literals for word in one.literals)

    def value(self, body: str, captures: Mapping[str, str]) -> Any:
        """What the text of the region amounts to. Raises ``ValueError`` or ``KeyError`` where it is malformed."""
        value = _content(body, self.kind, self.options)
        if self.transform is None:
            return value
        if not self.each:
            return _filled(self.transform, {**captures, "content": value})
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise ValueError("transform_each wants a list of objects")
        return [_filled(self.transform, {**captures, **item}) for item in value]


class Match(NamedTuple):
    """An opener or closer in the text."""

    start: int
    end: int
    opens: bool
    region: Region
    captures: dict[str, str]


@dataclass(frozen=True, eq=False)
class Regions:
    """A template. ``implicit`` takes the text outside the others; without one it is dropped."""

    fields: Mapping[str, Region]
    implicit: Region | None
    anchor: Anchor | None

    def behind_anchor(self, prompt: str) -> str:
        """The part of a prompt that belongs to the answer."""
        if self.anchor is None:
            return prompt
        found = list(self.anchor.pattern.finditer(prompt))
        return prompt[found[-1].end() :] if found else prompt

    def scan(self, here: Region | None, text: str, at: int, ended: bool) -> tuple[Match | None, int]:
        """The next opener or closer that counts in this region, and up to where the text in front of it is decided."""
        best: tuple[tuple[int, int, bool, str], Match] | None = None
        hold = len(text)
        for opens, region, anchor in self._watched(here):
            found = anchor.pattern.search(text, at, partial=not ended)
            if found is None:
                continue
            if not ended and (found.partial or anchor.may_grow(found, text)):
                hold = min(hold, found.start())
                continue
            key = (found.start(), found.start() - found.end(), not opens, region.name)
            if best is None or key < best[0]:
                captures = {name: value for name, value in found.groupdict().items() if value is not None}
                best = key, Match(found.start(), found.end(), opens, region, captures)
        if best is not None and best[1].start < hold:
            return best[1], hold
        return None, hold

    def _watched(self, here: Region | None) -> list[tuple[bool, Region, Anchor]]:
        if here is not None and here is not self.implicit:
            return [(False, here, here.closer)] if here.closer else []
        found = [(True, region, region.opener) for region in self.fields.values() if region.opener]
        if here is not None and here.closer:
            found.append((False, here, here.closer))
        return found


def regions(template: Mapping[str, Any]) -> Regions:
    """Read a template. Raises ``ValueError`` naming what is wrong with it."""
    if not isinstance(template, Mapping):
        raise ValueError("response_template must be an object")
    if template.get("version", 1) != 1:
        raise ValueError(f"response_template: version {template['version']!r} is not known; 1 is")
    known = {"version", "defaults", "fields", "start_anchor", "start_anchor_pattern"}
    if extra := sorted(set(template) - known):
        raise ValueError(f"response_template: unknown keys {extra}")
    if not isinstance(template.get("defaults", {}), Mapping):
        raise ValueError("response_template: 'defaults' must be an object")
    fields = template.get("fields")
    if not isinstance(fields, Mapping) or not fields:
        raise ValueError("response_template has no 'fields'; it must map thinking, content and tool_calls to regions")
    found = {name: _region(str(name), described) for name, described in fields.items()}
    implicit = [region for region in found.values() if region.opener is None]
    if len(implicit) > 1:
        raise ValueError(f"response_template: only one field may have no 'open', not {[r.name for r in implicit]}")
    return Regions(found, implicit[0] if implicit else None, _anchor("response_template", template, "start_anchor"))


def _region(name: str, described: Any) -> Region:
    where = f"response_template: field {name!r}"
    if not isinstance(described, Mapping):
        raise ValueError(f"{where} must be an object")
    if extra := sorted(set(described) - _KEYS):
        raise ValueError(f"{where}: unknown keys {extra}")
    kind = described.get("content", "text")
    if kind not in _KINDS:
        raise ValueError(f"{where}: content {kind!r} is not known; one of {', '.join(_KINDS)}")
    join = described.get("join")
    if join is not None and (not isinstance(join, str) or not described.get("repeats")):
        raise ValueError(f"{where}: 'join' must be a string, and wants 'repeats': true")
    opener, closer = _anchor(where, described, "open"), _anchor(where, described, "close")
    transform = described.get("transform")
    each = described.get("transform_each", False)
    if not isinstance(each, bool) or (each and transform is None):
        raise ValueError(f"{where}: 'transform_each' must be true or false, and wants a 'transform'")
    named = [name for one in (opener, closer) if one for name in one.pattern.groupindex]
    if transform is None and named:
        raise ValueError(f"{where}: the groups {named} are of no use without a 'transform'")
    _check(where, transform)
    return Region(name, opener, closer, kind, described.get("content_args") or {}, join or "", transform, each)


def _anchor(where: str, described: Mapping[str, Any], key: str) -> Anchor | None:
    given, pattern = described.get(key), described.get(f"{key}_pattern")
    if given is not None and pattern is not None:
        raise ValueError(f"{where}: '{key}' and '{key}_pattern' exclude each other")
    if pattern is not None:
        try:
            return Anchor(regex.compile(pattern, regex.DOTALL), None)
        except (regex.error, TypeError) as error:
            raise ValueError(f"{where}: '{key}_pattern' is no regular expression: {error}") from None
    if given is None:
        return None
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"{where}: '{key}' must be a string or a list of strings, none of them empty")
    ordered = sorted(dict.fromkeys(words), key=len, reverse=True)
    return Anchor(regex.compile("|".join(map(regex.escape, ordered)), regex.DOTALL), tuple(ordered))


def _check(where: str, transform: Any) -> None:
    if isinstance(transform, Mapping | list):
        for inner in transform.values() if isinstance(transform, Mapping) else transform:
            _check(where, inner)
    elif isinstance(transform, str) and _PLACE.search(transform) and not _PLACE.fullmatch(transform):
        raise ValueError(f"{where}: {transform!r} mixes a placeholder with text; it must be one or the other")


def _filled(transform: Any, scope: Mapping[str, Any]) -> Any:
    """The transform with its placeholders filled."""
    if isinstance(transform, Mapping):
        return {key: _filled(inner, scope) for key, inner in transform.items()}
    if isinstance(transform, list):
        return [_filled(inner, scope) for inner in transform]
    place = _PLACE.fullmatch(transform) if isinstance(transform, str) else None
    if place is None:
        return transform
    value: Any = scope
    for key in place[1].split("."):
        if not isinstance(value, Mapping):
            raise ValueError(f"{transform} looks into something that is no object")
        value = value[key]
    return value


# -- content ----------------------------------------------------------------------------------------------------------


def _content(text: str, kind: str, options: Mapping[str, Any]) -> Any:
    stripped = text.strip() if options.get("strip", True) else text
    if kind == "int":
        return int(stripped)
    if kind == "float":
        return float(stripped)
    if kind == "bool":
        return stripped.lower() in ("true", "1")
    if kind == "json":
        return _json(text, options)
    if kind == "xml-inline":
        return _tags(text, options)
    if kind == "kv-lines":
        return _lines(text, options)
    if kind == "python-call-list":
        return call_list(text)
    return stripped


def _inner(text: str, options: Mapping[str, Any]) -> Any:
    parser = options.get("value_parser")
    return text if parser is None else _content(text, parser.get("name", "text"), parser.get("args") or {})


def _json(text: str, options: Mapping[str, Any]) -> Any:
    """JSON, perhaps with strings between delimiters of their own and keys without quotes."""
    plain = text
    strings: list[str] = []
    for opened, closed in options.get("string_delims") or ():

        def put_away(found: Any) -> str:
            strings.append(found[1])
            return f"\x01{len(strings) - 1}\x02"

        plain = regex.sub(f"{regex.escape(opened)}(.*?){regex.escape(closed)}", put_away, plain, flags=regex.DOTALL)
    if options.get("unquoted_keys"):
        plain = _BARE_KEY.sub(lambda key: key[0] if key[2] is None else f'{key[1]}"{key[2]}"{key[3]}:', plain)
    for index, inside in enumerate(strings):
        plain = plain.replace(f"\x01{index}\x02", json.dumps(inside))
    try:
        return json.loads(plain)
    except ValueError:
        if options.get("allow_non_json"):
            return text.strip()
        raise


def _tags(text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    pattern = options.get("tag_pattern")
    if not isinstance(pattern, str):
        raise ValueError("xml-inline wants a 'tag_pattern'")
    found: dict[str, Any] = {}
    several: set[str] = set()
    for tag in regex.finditer(pattern, text, flags=regex.DOTALL):
        groups = tag.groupdict()
        key, value = groups["key"], _inner(groups.get("value") or "", options)
        if key not in found or not options.get("merge_duplicates"):
            found[key] = value
            continue
        if key not in several:
            found[key] = [found[key]]
            several.add(key)
        found[key].append(value)
    return found


def _lines(text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    sign = options.get("kv_sep", ":")
    found = {}
    for line in text.split(options.get("line_sep", "\n")):
        key, separator, value = line.partition(sign)
        if separator:
            strip = str.strip if options.get("strip", True) else str
            found[strip(key)] = _inner(strip(value), options)
    return found
