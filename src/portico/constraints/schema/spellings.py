"""Spellings of older drafts and of OpenAPI, made into today's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico.constraints.schema.keywords import ASSERTING

__all__ = ["modern", "present", "wrapped"]


def modern(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema as JSON Schema 2020-12 writes it; subschemas are left as they are."""
    schema = present(schema)
    renamed = "anyOf" if "anyOf" not in schema else "oneOf"
    given = {renamed if key == "oneOf" else key: value for key, value in schema.items()}
    if isinstance(given.get("items"), list):
        given["prefixItems"] = given.pop("items")
        if "additionalItems" in given:
            given["items"] = given["additionalItems"]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(given.get(exclusive), bool) and given.pop(exclusive) and bound in given:
            given[exclusive] = given.pop(bound)
    if given.pop("nullable", False) is True:
        if "type" in given:
            types = given["type"] if isinstance(given["type"], list) else [given["type"]]
            given["type"] = [*types, *(["null"] if "null" not in types else [])]
        if isinstance(given.get("enum"), list) and None not in given["enum"]:
            given["enum"] = [*given["enum"], None]
    _property_names(given)
    return given


def present(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without keywords whose value is null: Go and others write what is not set that way."""
    if None not in schema.values():
        return schema
    return {key: value for key, value in schema.items() if value is not None or key == "const"}


def wrapped(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The one schema in an ``allOf`` that says all there is to say, as some generators write references."""
    inside = schema.get("allOf")
    if not isinstance(inside, list) or len(inside) != 1 or not isinstance(inside[0], Mapping):
        return None
    return inside[0] if len(ASSERTING & present(schema).keys()) == 1 else None


def _property_names(given: dict[str, Any]) -> None:
    """``propertyNames`` of a map becomes its properties or its name pattern, where it can."""
    names = given.get("propertyNames")
    if not isinstance(names, Mapping) or given.keys() & {"properties", "patternProperties", "required"}:
        return
    value = given.get("additionalProperties", True)
    asserting = {key: names[key] for key in names if key in ASSERTING and (key, names[key]) != ("type", "string")}
    if set(asserting) == {"enum"} and all(isinstance(name, str) for name in asserting["enum"]):
        given["properties"] = dict.fromkeys(asserting["enum"], value)
    elif set(asserting) == {"const"} and isinstance(asserting["const"], str):
        given["properties"] = {asserting["const"]: value}
    elif set(asserting) == {"pattern"}:
        given["patternProperties"] = {asserting["pattern"]: value}
    else:
        return
    given["additionalProperties"] = False
    del given["propertyNames"]
