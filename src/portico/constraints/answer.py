"""What a request promises of the answer itself: ``response_format`` and ``structured_outputs`` as a grammar.

``response_format`` is OpenAI's (``text``, ``json_object``, ``json_schema``) with vLLM's ``structural_tag``;
``structured_outputs`` is vLLM's extension: one of ``json``, ``json_object``, ``regex``, ``choice``, ``grammar``,
``structural_tag``, with ``disable_any_whitespace`` and ``whitespace_pattern`` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from portico.constraints import gbnf, structural_tag
from portico.constraints.limits import Limits
from portico.errors import BadRequestError
from portico.grammar import Exactly, Grammar, Json, OneOf, Pattern, Verbatim

__all__ = ["answer_grammar"]

_KINDS = ("json", "json_object", "regex", "choice", "grammar", "structural_tag")


def answer_grammar(
    response_format: Mapping[str, Any] | None,
    structured_outputs: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Grammar | None:
    """The grammar that the answer has to follow; None when any text will do.

    Raises ``BadRequestError`` naming the field. Schemas are not looked into here: compiling does that.
    """
    limits = limits or Limits()
    by_format = _from_response_format(response_format, limits) if response_format else None
    by_extension = _from_structured_outputs(structured_outputs, limits) if structured_outputs else None
    if by_format is not None and by_extension is not None:
        raise _bad("structured_outputs", "cannot be combined with a 'response_format' other than text; leave one out")
    return by_format if by_extension is None else by_extension


def _from_response_format(wanted: Mapping[str, Any], limits: Limits) -> Grammar | None:
    kind = wanted.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return Json({"type": "object"}, "response_format")
    if kind == "json_schema":
        given = wanted.get("json_schema")
        if not isinstance(given, Mapping):
            raise _bad("response_format.json_schema", "must be an object with 'name' and 'schema'")
        schema = given.get("schema")
        if not isinstance(schema, Mapping):
            raise _bad("response_format.json_schema.schema", "must be a JSON Schema object")
        return Json(schema, "response_format.json_schema.schema", strict=given.get("strict") is True)
    if kind == "structural_tag":
        return structural_tag.read(wanted, "response_format", limits)
    raise _bad("response_format.type", "must be 'text', 'json_object', 'json_schema' or 'structural_tag'")


def _from_structured_outputs(wanted: Mapping[str, Any], limits: Limits) -> Grammar | None:
    given = [kind for kind in _KINDS if wanted.get(kind) not in (None, False)]
    if not given:
        return None
    if len(given) > 1:
        raise _bad("structured_outputs", f"must have one of {', '.join(_KINDS)}, not {len(given)} of them")
    kind, value = given[0], wanted[given[0]]
    param = f"structured_outputs.{kind}"
    match kind:
        case "json":
            return Json(_parsed(value, param), param, white_space=_white_space(wanted))
        case "json_object":
            return Json({"type": "object"}, param, white_space=_white_space(wanted))
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
    return structural_tag.read(_parsed(value, param), param, limits)


def _choice(value: Any, param: str, limits: Limits) -> Grammar:
    if not isinstance(value, list) or not 0 < len(value) <= limits.choices:
        raise _bad(param, f"must be a list of 1 to {limits.choices} strings")
    if not all(isinstance(one, str) and 0 < len(one) <= limits.literal for one in value):
        raise _bad(param, f"must hold strings of 1 to {limits.literal} characters")
    if sum(map(len, value)) > limits.grammar:
        raise _bad(param, f"must not be longer than {limits.grammar} characters in all")
    return OneOf(tuple(Exactly(one) for one in dict.fromkeys(value)))


def _white_space(wanted: Mapping[str, Any]) -> str | None:
    """The client's rule for white space inside JSON: none at all, its own pattern, or None for ours."""
    if wanted.get("disable_any_whitespace"):
        return ""
    pattern = wanted.get("whitespace_pattern")
    if pattern is not None and not isinstance(pattern, str):
        raise _bad("structured_outputs.whitespace_pattern", "must be a string")
    return pattern


def _parsed(value: Any, param: str) -> Mapping[str, Any]:
    """An object given as itself or as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _bad(param, "is not valid JSON") from None
    if not isinstance(value, Mapping):
        raise _bad(param, "must be a JSON object, or the text of one")
    return value


def _bad(param: str, problem: str) -> BadRequestError:
    return BadRequestError(f"{param} {problem}.", param=param)
