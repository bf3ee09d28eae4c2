"""The keywords of JSON Schema, by what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["ASSERTING", "COMBINING", "COUNTS", "FORMATS", "NUMERIC", "TYPES", "UNENFORCEABLE", "Schema", "types_of"]

Schema: TypeAlias = "dict[str, Any] | bool"

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
# Keywords that narrow what is accepted and that no grammar holds. The value is what makes each of them harmless.
UNENFORCEABLE: dict[str, tuple[Any, ...]] = {
    "not": (False,),
    "if": (),
    "then": (),
    "else": (),
    "contains": (),
    "uniqueItems": (False,),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
    "propertyNames": (True, {}, {"type": "string"}),
    "unevaluatedProperties": (True, {}),
    "unevaluatedItems": (True, {}),
    "$dynamicRef": (),
    "$recursiveRef": (),
}
COMBINING = ("$ref", "allOf", "anyOf", "oneOf")
NUMERIC = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
# Keywords that say something about an instance; a schema of none of them accepts everything.
ASSERTING = {
    *COMBINING, *NUMERIC, *COUNTS, "type", "const", "enum", "pattern", "format", "nullable",
    "properties", "patternProperties", "additionalProperties", "required", "items", "prefixItems", *UNENFORCEABLE,
}  # fmt: skip


def types_of(schema: Mapping[str, Any]) -> Sequence[str]:
    """The names in its ``type``; none where it has no such keyword."""
    types = schema.get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)
