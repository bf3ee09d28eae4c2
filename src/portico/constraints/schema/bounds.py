"""Bounds for what a schema leaves open, so that a model that runs on comes to an end.

All of them narrow, and none is applied where a schema says itself how far to go. Numbers, formats and patterns are
where models do run on, so their bounds are near; those of lists and maps lie beyond any ordinary answer. Free text ends
with the request's token limit: to count its characters costs time with every token, and a grammar that has counted
some 100,000 of them breaks. It also ends what else is open: the other members of an object that lists optional ones,
and what combined schemas (``allOf``, keywords beside ``$ref`` and ``anyOf``) say nothing of.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from portico.constraints.limits import Limits
from portico.constraints.regex import read, whole, written
from portico.constraints.schema.keywords import NUMERIC, types_of

__all__ = [
    "ANY",
    "LARGEST_BOUND",
    "LONGEST",
    "any_value",
    "bound_numbers",
    "bound_sizes",
    "close_array",
    "close_object",
    "imply_type",
]

LARGEST_INTEGER = 2**53 - 1
LARGEST_NUMBER = 10**15
LARGEST_MULTIPLE = 10**12
DECIMALS = Decimal("1e-9")
# The formats that have no end of their own: how many characters they may have, and what shorter ends their parts have.
LONGEST = {"date-time": 35, "time": 24, "duration": 64, "email": 128, "hostname": 128, "uri": 2048}
_PARTS = {
    "date-time": r"[^.]+(?:\.[0-9]{1,9})?[^0-9.][^.]*",  # of the seconds nine decimals
    "time": r"[^.]+(?:\.[0-9]{1,9})?[^0-9.][^.]*",
    "duration": r"[^0-9]+(?:[0-9]{1,9}[^0-9]+)*",
    "email": r"[^@]{1,64}@[^.]{1,63}(?:\.[^.]{1,63})*",
    "uri": r"[^:]{1,32}:(?:(?://[^/?#]{0,255})?(?:[/?#][\s\S]*)?|[^/][\s\S]*)",
}
FORMAT_PATTERNS = {name: f"^(?:{written(whole(read(f'^(?:{parts})$', 'ecma')))})$" for name, parts in _PARTS.items()}
LARGEST_BOUND = 9 * 10**18  # beyond it the compiler, which counts in 64 bits, cannot write a number's range

_ABOUT = {
    "object": {"properties", "patternProperties", "additionalProperties", "required", "minProperties", "maxProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"pattern", "format", "minLength", "maxLength"},
    "number": set(NUMERIC),
}

ANY = {"$ref": "#/$defs/any"}


def any_value(limits: Limits) -> dict[str, Any]:
    """The schema of any value; it is the definition that ``ANY`` refers to."""
    kinds: list[dict[str, Any]] = [
        {"type": ["null", "boolean", "string"]},
        {"type": "number"},
        {"type": "array", "items": ANY},
        {"type": "object", "additionalProperties": ANY},
    ]
    for kind in kinds:
        bound_numbers(kind, decimals=True)
        if limits.bounded:
            bound_sizes(kind, limits)
    return {"anyOf": kinds}


def bound_numbers(out: dict[str, Any], *, decimals: bool) -> None:
    """Bound the numbers of a typed schema where it does not do so itself; with ``decimals`` also those."""
    types = types_of(out)
    if not {"integer", "number"} & set(types):
        return
    largest = LARGEST_NUMBER if "number" in types else LARGEST_INTEGER
    if "multipleOf" in out:
        largest = LARGEST_MULTIPLE
    low = out.get("minimum", out.get("exclusiveMinimum"))
    high = out.get("maximum", out.get("exclusiveMaximum"))
    if low is not None and low == out.get("maximum") == out.get("minimum") and len(types) == 1:
        out.clear()  # the compiler miscounts the decimals of such a range
        out["const"] = low
        return
    if low is None:
        out["minimum"] = -largest if high is None or high > -largest else -LARGEST_BOUND
    if high is None:
        out["maximum"] = largest if low is None or low < largest else LARGEST_BOUND
    if decimals and "number" in types and "multipleOf" not in out:
        out["multipleOf"] = float(DECIMALS)


def imply_type(out: dict[str, Any]) -> None:
    """A schema without a type has those that its keywords are about."""
    if "type" not in out:
        kinds = [kind for kind, keywords in _ABOUT.items() if out.keys() & keywords]
        out["type"] = kinds[0] if len(kinds) == 1 else kinds


def close_object(out: dict[str, Any]) -> None:
    """Close an object that lists its properties; give a free map a bounded value."""
    if "object" not in types_of(out) or "additionalProperties" in out:
        return
    if not out.keys() & {"properties", "patternProperties"}:
        out["additionalProperties"] = ANY
        return
    out["additionalProperties"] = False
    properties = out.setdefault("properties", {})
    for name in out.get("required", ()):
        if name not in properties and "patternProperties" not in out:
            properties[name] = ANY


def close_array(out: dict[str, Any]) -> None:
    """Give an array whose items are free a bounded item."""
    if "array" in types_of(out) and "items" not in out:
        out["items"] = False if "prefixItems" in out else ANY


def bound_sizes(out: dict[str, Any], limits: Limits) -> None:
    """Bound the length of strings, of lists, and of maps with their names."""
    types = types_of(out)
    longest = LONGEST.get(out.get("format", ""), limits.string)
    if "string" in types and longest is not None:
        out.setdefault("maxLength", max(longest, out.get("minLength", 0)))
        if (pattern := FORMAT_PATTERNS.get(out.get("format", ""))) is not None:
            out.setdefault("pattern", pattern)
    if "array" in types and "maxItems" not in out and out.get("items") is not False:
        out["maxItems"] = max(limits.items, out.get("minItems", 0), len(out.get("prefixItems", ())))
    others = out.get("additionalProperties", False)
    if "object" not in types or not (others or out.get("patternProperties")):
        return
    if out.get("properties", {}).keys() <= set(out.get("required", ())):  # else the compiler cannot count
        least = max(out.get("minProperties", 0), len(out.get("required", ())))
        out.setdefault("maxProperties", max(limits.members, least))
    if others and not any(out.get(key) for key in ("properties", "patternProperties", "required")):
        out["patternProperties"] = {rf"^(?:[\s\S]{{0,{limits.name}}})$": others}
        out["additionalProperties"] = False
