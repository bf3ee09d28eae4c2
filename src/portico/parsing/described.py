"""As much of a checkpoint's ``response_template`` as a page could say: what its grammar and its writer are made from.

Regular expressions are understood where they spell one shape: literals, and named groups for what varies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from portico.parsing.arguments import Codec, Json
from portico.parsing.bodies import Headed, JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Reasoning
from portico.parsing.keywords import Keyword
from portico.parsing.strings import PYTHON, Dialect
from portico.parsing.tagged import Tagged

__all__ = ["description"]

_GROUP = re.compile(r"\(\?P<([a-z]+)>(?:[^()\\]|\\.)*\)")
_MAGIC = re.compile(r"[.^$*+?()\[\]|]")
_PLACE = re.compile(r"\{([\w.]+)\}")


class _More(ValueError):
    """The template says more than a page can."""


def description(template: Mapping[str, Any]) -> tuple[Calls | None, Reasoning | None]:
    """How calls and thoughts are written; None for what takes more than a description."""
    fields = template["fields"]
    content = fields.get("content") or {}
    calls = thoughts = None
    try:
        calls = _calls(fields["tool_calls"]) if fields.get("tool_calls") else None
    except (_More, StopIteration, KeyError):
        pass
    try:
        opener = _opener(content)
        wrappers = tuple((opener, closer) for closer in _closers(content) or ("",)) if opener else ()
        thinking = fields.get("thinking") or fields.get("reasoning_content")
        if thinking:
            thoughts = Reasoning(_opener(thinking), _closers(thinking), wrappers=wrappers)
    except _More:
        pass
    return calls, thoughts


def _opener(region: Mapping[str, Any]) -> str:
    if region.get("open_pattern"):
        return _spelled(region["open_pattern"])
    given = region.get("open") or ""
    return str(given[0] if isinstance(given, list) else given)


def _closers(region: Mapping[str, Any]) -> tuple[str, ...]:
    given = region.get("close")
    if given is None and region.get("close_pattern"):
        given = _spelled(region["close_pattern"])
    return (given,) if isinstance(given, str) else tuple(given or ())


def _spelled(pattern: str) -> str:
    """A wire template for a regular expression made of literals and named groups."""
    shape = _GROUP.sub(lambda group: f"{{{group[1]}}}", pattern.removeprefix("(?s)").removeprefix("(?:"))
    shape = shape.replace(r"\s*", "").replace(r"\n", "\n")
    literal = re.sub(r"\\(\W)", lambda escape: f"\0{ord(escape[1]):04x}", shape)
    if _MAGIC.search(literal) or "\\" in literal:
        raise _More
    return re.sub("\0([0-9a-f]{4})", lambda code: chr(int(code[1], 16)), literal)


def _calls(region: Mapping[str, Any]) -> Calls:
    opener, closers = _opener(region), _closers(region)
    transform = region.get("transform")
    function = transform.get("function", transform) if isinstance(transform, Mapping) else transform
    if "{name}" in opener:
        return Calls(Headed(opener, _codec(region)), close=closers)
    kind = region.get("content", "text")
    if kind not in ("json", "python-call-list") or not opener:
        raise _More
    names = {"name": "name", "arguments": "arguments"}
    if isinstance(function, Mapping):
        for key in names:
            place = _PLACE.fullmatch(str(function.get(key, "")))
            if place is None:
                raise _More
            names[key] = place[1].split(".")[-1]
    elif function not in (None, "{content}"):
        raise _More
    if kind == "python-call-list":
        if names != {"name": "name", "arguments": "arguments"} or not region.get("transform_each"):
            raise _More
        return Calls(Headed("{name}", Keyword(PYTHON)), section=opener, section_close=closers, list=("[", ", ", "]"))
    body = JsonObject((names["name"],), (names["arguments"],))
    if region.get("transform_each"):
        return Calls(body, section=opener, section_close=closers, list=("[", ", ", "]"))
    return Calls(body, open=opener, close=closers)


def _codec(region: Mapping[str, Any]) -> Codec:
    kind = region.get("content", "json")
    given = region.get("content_args") or {}
    if kind == "xml-inline":
        return Tagged(_spelled(given.get("tag_pattern", "")))
    if kind != "json":
        raise _More
    delimiters = given.get("string_delims") or given.get("string_delimiters")
    if delimiters:
        quotes = tuple(d if isinstance(d, str) else d[0] for d in delimiters)
        return Keyword(Dialect(quotes, bare_keys=True), ("{}",), ":", quotes[0], ",", typed=True)
    return Json()
