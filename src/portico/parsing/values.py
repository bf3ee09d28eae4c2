"""The JSON text of a value that the wire carries as bare text.

Formats with tagged parameters write ``3`` for the number and for the string alike; the schema decides. Its types are
tried from the narrowest to the widest: null, integer, number, boolean, object or array, string. Text that fits none of
them is taken as JSON if it is JSON, else as the string it is: nothing is dropped. Numbers are never converted, only
recognised, so that no digit changes.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from portico.parsing.json_text import quoted
from portico.parsing.literals import PYTHON, transcribe
from portico.parsing.schema import Schema

__all__ = ["as_json"]

_NESTED = frozenset({"object", "array"})
_KIND = {"{": "object", "[": "array"}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_INTEGRAL = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


@lru_cache(maxsize=512)
def _json_or_none(text: str) -> str | None:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return text


def _refuse(word: str) -> Any:
    raise ValueError(word)  # NaN and Infinity are not JSON


def as_json(text: str, schema: Schema | None) -> str:
    """The JSON text of a value that the wire wrote as ``text``. ``None``: the parameter is not declared."""
    types = schema.types if schema is not None else frozenset()
    bare = text.strip()
    choices = schema.choices if schema is not None else None
    if choices is not None:
        for choice in sorted(choices, key=lambda value: isinstance(value, str)):
            written = choice if isinstance(choice, str) else json.dumps(choice, ensure_ascii=False)
            if written in (text, bare):
                return quoted(choice) if isinstance(choice, str) else written
    if "null" in types and bare.lower() in ("null", "none"):
        return "null"
    if "integer" in types:
        if _INTEGER.fullmatch(bare):
            return bare
        if integral := _INTEGRAL.fullmatch(bare):
            return integral.group(1)
    if "number" in types and _NUMBER.fullmatch(bare):
        return bare
    if "boolean" in types:
        if bare.lower() in ("true", "1"):
            return "true"
        if bare.lower() in ("false", "0"):
            return "false"
    if types & _NESTED:
        found = _nested(bare)
        if found is not None and ("string" not in types or _KIND.get(found[:1], "") in types):
            return found
    if "string" in types or (schema is not None and not types):
        return quoted(text)
    return _nested(bare) or quoted(text)


def _nested(text: str) -> str | None:
    """JSON text of what is JSON or, failing that, a Python literal of a list, tuple or dict."""
    if len(text) > 65536:  # too long to be worth remembering
        found = _json_or_none.__wrapped__(text)
    else:
        found = _json_or_none(text)
    if found is None and text[:1] in ("{", "[", "("):
        return transcribe(text, PYTHON)
    return found
