"""What a request promises of the answer itself, in any of the spellings that clients have for it, as a grammar.

``response_format`` is OpenAI's (``text``, ``json_object``, ``json_schema``) with vLLM's ``structural_tag`` and with the
schema where llama.cpp takes it. ``structured_outputs`` is vLLM's extension: one of ``json``, ``json_object``,
``regex``, ``choice``, ``grammar``, ``structural_tag``, with ``disable_any_whitespace`` and ``whitespace_pattern``
beside it. ``OLDER`` are fields that say the same: vLLM's before 0.12 (``guided_json`` …) and llama.cpp's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from portico.constraints import gbnf, regex, structural_tag
from portico.constraints.limits import Limits
from portico.errors import BadRequestError
from portico.grammar import Exactly, Grammar, Json, OneOf, Pattern, Verbatim

__all__ = ["OLDER", "answer_grammar"]

_KINDS = ("json", "json_object", "regex", "choice", "grammar", "structural_tag")
OLDER = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "json_schema": "json",
    "grammar": "grammar",
}


def answer_grammar(
    response_format: Mapping[str, Any] | None,
    structured_outputs: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    older: Mapping[str, Any] | None = None,
) -> Grammar | None:
    """The grammar that the answer has to follow; None when any text will do. ``older``: fields out of ``OLDER``, and
    ``guided_whitespace_pattern``.

    Raises ``BadRequestError`` naming the field, also where two of them ask for different things. Schemas are not looked
    into here: compiling does that.
    """
    limits = limits or Limits()
    structured, older = structured_outputs or {}, older or {}
    wanted = [(f"structured_outputs.{kind}", kind, structured[kind]) for kind in _KINDS if _given(structured, kind)]
    wanted += [(name, kind, older[name]) for name, kind in OLDER.items() if _given(older, name)]
    white_space = _white_space(structured, older, limits)
    found = [(param, _extension(param, kind, value, white_space, limits)) for param, kind, value in wanted]
    by_format = _from_response_format(response_format, limits) if response_format else None
    if by_format is not None and not (found and by_format == _ANY_OBJECT):  # where a schema says more than any object
        found.insert(0, ("response_format", by_format))
    for param, grammar in found[1:]:
        if not _alike(grammar, found[0][1]):
            raise _bad(param, f"asks for something else than '{found[0][0]}'; send one of them")
    return found[0][1] if found else None


NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a schema
_ANY_OBJECT = Json({"type": "object"}, "response_format")


def _given(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    return value is not None and value is not False


def _alike(one: Grammar, other: Grammar) -> bool:
    """Whether two grammars are the same but for the field that they come from."""
    if isinstance(one, Json) and isinstance(other, Json):
        return one.schema == other.schema
    if isinstance(one, Pattern | Verbatim) and isinstance(other, Pattern | Verbatim):
        return replace(one, param="") == replace(other, param="")
    return one == other


def _from_response_format(wanted: Mapping[str, Any], limits: Limits) -> Grammar | None:
    kind = wanted.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        if wanted.get("schema") is None:
            return _ANY_OBJECT
        return Json(_parsed(wanted["schema"], "response_format.schema", limits), "response_format.schema", strict=False)
    if kind == "json_schema":
        given = wanted.get("json_schema")
        if given is None and isinstance(wanted.get("schema"), Mapping):
            return Json(wanted["schema"], "response_format.schema", strict=False)
        if not isinstance(given, Mapping):
            raise _bad("response_format.json_schema", "must be an object with 'name' and 'schema'")
        schema = given.get("schema")
        if not isinstance(schema, Mapping):
            raise _bad("response_format.json_schema.schema", "must be a JSON Schema object")
        _check_words(given)
        return Json(schema, "response_format.json_schema.schema", strict=given.get("strict") is True)
    if kind == "structural_tag":
        return structural_tag.read(wanted, "response_format", limits)
    raise _bad("response_format.type", "must be 'text', 'json_object', 'json_schema' or 'structural_tag'")


def _check_words(given: Mapping[str, Any]) -> None:
    """What stands beside a schema has no effect but ``strict``, and yet has to be what OpenAI takes."""
    name, description, strict = (given.get(key) for key in ("name", "description", "strict"))
    where = "response_format.json_schema"
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise _bad(f"{where}.name", "must be 1 to 64 letters, digits, '_' and '-'")
    if not isinstance(description, str | None):
        raise _bad(f"{where}.description", "must be text")
    if not isinstance(strict, bool | None):
        raise _bad(f"{where}.strict", "must be true or false")


def _extension(param: str, kind: str, value: Any, white_space: str | None, limits: Limits) -> Grammar:
    match kind:
        case "json":
            return Json(_parsed(value, param, limits), param, strict=False, white_space=white_space)
        case "json_object":
            return Json({"type": "object"}, param, white_space=white_space)
        case "regex":
            if not isinstance(value, str) or not 0 < len(value) <= limits.pattern:
                raise _bad(param, f"must be a string of 1 to {limits.pattern} characters")
            return Pattern(value, param)
        case "choice":
            return _choice(value, param, limits)
        case "grammar":
            if not isinstance(value, str) or not 0 < len(value) <= limits.grammar:
                raise _bad(param, f"must be a string of 1 to {limits.grammar} characters")
            return Verbatim(gbnf.to_lark(value, param) if gbnf.is_gbnf(value) else value, param)
    return structural_tag.read(_parsed(value, param, limits), param, limits)


def _choice(value: Any, param: str, limits: Limits) -> Grammar:
    if not isinstance(value, list) or not 0 < len(value) <= limits.choices:
        raise _bad(param, f"must be a list of 1 to {limits.choices} strings")
    if not all(isinstance(one, str) and 0 < len(one) <= limits.literal for one in value):
        raise _bad(param, f"must hold strings of 1 to {limits.literal} characters")
    if sum(map(len, value)) > limits.grammar:
        raise _bad(param, f"must not be longer than {limits.grammar} characters in all")
    return OneOf(tuple(Exactly(one) for one in dict.fromkeys(value)))


def _white_space(structured: Mapping[str, Any], older: Mapping[str, Any], limits: Limits) -> str | None:
    """The client's rule for white space inside JSON: none at all, its own pattern made finite, or None for ours."""
    if structured.get("disable_any_whitespace"):
        return ""
    fields = {
        "structured_outputs.whitespace_pattern": structured.get("whitespace_pattern"),
        "guided_whitespace_pattern": older.get("guided_whitespace_pattern"),
    }
    for param, pattern in fields.items():
        if pattern is None:
            continue
        if not isinstance(pattern, str) or len(pattern) > limits.pattern:
            raise _bad(param, f"must be a string of at most {limits.pattern} characters")
        try:
            return regex.written(regex.bounded(regex.exact(regex.read(pattern, "rust")), limits.indent))
        except regex.UnheldError as error:
            raise _bad(param, f"has {error}, which cannot be enforced") from None
    return None


def _parsed(value: Any, param: str, limits: Limits) -> Mapping[str, Any]:
    """An object given as itself or as JSON text."""
    if isinstance(value, str):
        if len(value) > limits.schema:
            raise _bad(param, f"is too long; at most {limits.schema} characters are allowed")
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _bad(param, "is not valid JSON") from None
    if not isinstance(value, Mapping):
        raise _bad(param, "must be a JSON object, or the text of one")
    return value


def _bad(param: str, problem: str) -> BadRequestError:
    return BadRequestError(f"{param} {problem}.", param=param)
