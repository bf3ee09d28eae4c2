"""Bounds for what a schema leaves open, so that a model that runs on comes to an end.

All of them narrow, and none is applied where a schema says itself how far to go.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from portico.constraints.schema.keywords import types_of

__all__ = ["ANY", "LARGEST_BOUND", "any_value", "bound_numbers", "close_array", "close_object"]

LARGEST_INTEGER = 2**53 - 1
LARGEST_NUMBER = 10**15
LARGEST_MULTIPLE = 10**12
DECIMALS = Decimal("1e-9")
LARGEST_BOUND = 9 * 10**18  # beyond it the compiler, which counts in 64 bits, cannot write a number's range

ANY = {"$ref": "#/$defs/any"}


def any_value() -> dict[str, Any]:
    """The schema of any value, numbers bounded; it is the definition that ``ANY`` refers to."""
    number: dict[str, Any] = {"type": "number"}
    bound_numbers(number, decimals=True)
    return {
        "anyOf": [
            {"type": ["null", "boolean", "string"]},
            number,
            {"type": "array", "items": ANY},
            {"type": "object", "additionalProperties": ANY},
        ]
    }


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
    if low is None:
        out["minimum"] = -largest if high is None or high > -largest else -LARGEST_BOUND
    if high is None:
        out["maximum"] = largest if low is None or low < largest else LARGEST_BOUND
    if decimals and "number" in types and "multipleOf" not in out:
        out["multipleOf"] = float(DECIMALS)


def close_object(out: dict[str, Any]) -> None:
    """Close an object that lists its properties; give a free map a bounded value."""
    about_objects = out.keys() & {"properties", "patternProperties", "additionalProperties", "required"}
    if "type" not in out and about_objects:
        out["type"] = "object"
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
    if "type" not in out and out.keys() & {"items", "prefixItems"}:
        out["type"] = "array"
    if "array" in types_of(out) and "items" not in out:
        out["items"] = False if "prefixItems" in out else ANY
