"""``hf``: the format that a checkpoint declares itself, in its tokenizer's ``response_template``.

The template names fields (``thinking``, ``content``, ``tool_calls``), each with an opener, a closer, and the way its
content is coded. It is turned into a description like any page's, so the one machine reads it. Regular expressions are
understood where they spell one shape: literals, and named groups for what varies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from portico.parsing.arguments import Codec, Json
from portico.parsing.bodies import Headed, JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Family, Reasoning
from portico.parsing.keywords import Keyword
from portico.parsing.strings import Dialect
from portico.parsing.tagged import Tagged

__all__ = ["from_response_template"]

_GROUP = re.compile(r"\(\?P<([a-z]+)>(?:[^()\\]|\\.)*\)")
_MAGIC = re.compile(r"[.^$*+?()\[\]|]")
_PLACE = re.compile(r"\{content\.([\w.]+)\}")


def from_response_template(template: Mapping[str, Any]) -> Family:
    """A family named ``hf``. Raises ``ValueError`` for a template that this reader does not understand."""
    fields = template.get("fields")
    if not isinstance(fields, Mapping):
        raise ValueError("response_template has no 'fields'; it must map thinking, content and tool_calls to regions")
    tools: dict[str, Calls] = {}
    reasoning: dict[str, Reasoning] = {}
    wrappers: tuple[tuple[str, str], ...] = ()
    content = fields.get("content") or {}
    if _opener(content, "content"):
        wrappers = tuple((_opener(content, "content"), closer) for closer in _closers(content) or ("",))
    thinking = fields.get("thinking") or fields.get("reasoning_content")
    if thinking:
        reasoning["hf"] = Reasoning(_opener(thinking, "thinking"), _closers(thinking), wrappers=wrappers)
    elif wrappers:
        reasoning["hf"] = Reasoning("", "", wrappers=wrappers)
    if fields.get("tool_calls"):
        tools["hf"] = _calls(fields["tool_calls"])
    return Family("hf", models="a checkpoint that carries a response_template", tools=tools, reasoning=reasoning)


def _opener(region: Mapping[str, Any], field: str) -> str:
    if region.get("open_pattern"):
        return _spelled(region["open_pattern"], field)
    return str(region.get("open") or "")


def _closers(region: Mapping[str, Any]) -> tuple[str, ...]:
    given = region.get("close")
    if given is None and region.get("close_pattern"):
        given = _spelled(region["close_pattern"], "close")
    return (given,) if isinstance(given, str) else tuple(given or ())


def _spelled(pattern: str, field: str) -> str:
    """A wire template for a regular expression made of literals and named groups."""
    shape = _GROUP.sub(lambda group: f"{{{group[1]}}}", pattern.removeprefix("(?s)").removeprefix("(?:"))
    shape = shape.replace(r"\s*", "").replace(r"\n", "\n")
    literal = re.sub(r"\\(\W)", lambda escape: f"\0{ord(escape[1]):04x}", shape)
    if _MAGIC.search(literal) or "\\" in literal:
        raise ValueError(f"response_template: the pattern of {field!r} is more than literals and named groups")
    return re.sub("\0([0-9a-f]{4})", lambda code: chr(int(code[1], 16)), literal)


def _calls(region: Mapping[str, Any]) -> Calls:
    opener, closers = _opener(region, "tool_calls"), _closers(region)
    transform = region.get("transform") or region.get("transform_each") or {}
    function = transform.get("function", transform)
    if "{name}" in opener:
        return Calls(Headed(opener, _codec(region)), close=closers)
    if region.get("content", "json") != "json":
        raise ValueError("response_template: tool_calls of this content need the call's name in 'open_pattern'")
    name = _PLACE.fullmatch(str(function.get("name", "{content.name}")))
    arguments = _PLACE.fullmatch(str(function.get("arguments", "{content.arguments}")))
    if name is None or arguments is None:
        raise ValueError("response_template: the transform of tool_calls must take name and arguments from the content")
    body = JsonObject((name[1].split(".")[-1],), (arguments[1].split(".")[-1],))
    if "transform_each" in region:
        return Calls(body, section=opener, section_close=closers, list=("[", ", ", "]"))
    return Calls(body, open=opener, close=closers)


def _codec(region: Mapping[str, Any]) -> Codec:
    kind = region.get("content", "json")
    given = region.get("content_args") or {}
    if kind == "xml-inline":
        return Tagged(_spelled(given.get("tag_pattern", ""), "tag_pattern"))
    if kind != "json":
        raise ValueError(
            f"response_template: tool_calls with content {kind!r} are not supported; use json or xml-inline"
        )
    delimiters = given.get("string_delims") or given.get("string_delimiters")
    if delimiters:
        quotes = tuple(d if isinstance(d, str) else d[0] for d in delimiters)
        return Keyword(Dialect(quotes, bare_keys=True), ("{}",), ":", quotes[0], ",", typed=True)
    return Json()
