"""Whether a schema has a document that comes to an end: a least fixed point over its definitions."""

from __future__ import annotations

from collections.abc import Mapping

from portico.constraints.schema.keywords import Schema, types_of

__all__ = ["is_finite"]


def is_finite(root: Schema, definitions: Mapping[str, Schema]) -> bool:
    """Whether some finite document satisfies ``root``, which refers to ``definitions`` by ``#/$defs/NAME``."""
    finite: set[str] = set()
    while found := {name for name in definitions.keys() - finite if _ends(definitions[name], finite)}:
        finite |= found
    return _ends(root, finite)


def _ends(schema: Schema, finite: set[str]) -> bool:
    """Whether ``schema`` has a finite document, given that the definitions named in ``finite`` have."""
    if not isinstance(schema, dict):
        return True
    if "$ref" in schema and schema["$ref"].removeprefix("#/$defs/") not in finite:
        return False
    if not all(_ends(part, finite) for part in schema.get("allOf", ())):
        return False
    if not all(any(_ends(one, finite) for one in schema[key]) for key in ("anyOf", "oneOf") if key in schema):
        return False
    types = types_of(schema)
    if "object" in types and len(types) == 1:
        properties = schema.get("properties", {})
        if not all(_ends(properties.get(name, True), finite) for name in schema.get("required", ())):
            return False
    if "array" in types and len(types) == 1 and schema.get("minItems", 0):
        first = schema["prefixItems"][: schema["minItems"]] if "prefixItems" in schema else ()
        rest = [schema.get("items", True)] if schema["minItems"] > len(first) else []
        return all(_ends(item, finite) for item in (*first, *rest))
    return True
