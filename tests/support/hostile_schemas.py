"""Schemas and grammars that are wrong, unsatisfiable, or made to cost time and memory."""

from __future__ import annotations

from typing import Any


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def chain(length: int, link: Any) -> dict[str, Any]:
    """Definitions that each lead to the next one, ``link(reference)`` at a time."""
    definitions = {f"d{n}": link({"$ref": f"#/$defs/d{n + 1}"}) for n in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{length}": {"type": "string"}}}


# Refused with these words in the message.
REFUSED: dict[str, tuple[Any, str]] = {
    "deep": (nested(100), "nested deeper than 64 levels"),
    "very deep": (nested(5000), "nested too deeply"),
    "huge enum": ({"enum": [f"v{n}" for n in range(20_000)]}, "enumerates more than 10000 values"),
    "long literals": ({"enum": ["x" * 30_000 + str(n) for n in range(8)]}, "longer than 2000 characters"),
    "large": ({"enum": ["x" * 1000 + str(n) for n in range(1000)]}, "at most 256000"),
    "many subschemas": ({"anyOf": [{"type": "null"}] * 12_000}, "more than 10000 subschemas"),
    "long pattern": ({"type": "string", "pattern": "a?" * 5000}, "more than 2000 characters"),
    "look-ahead": ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    "back-reference": ({"type": "string", "pattern": r"(a)\1"}, "a back-reference"),
    "unclosed pattern": ({"type": "string", "pattern": "("}, "a closing parenthesis missing"),
    "intersection": ({"allOf": [{"type": "string", "pattern": f"a.{{{n}}}b"} for n in range(40)]}, "too complex"),
    "wide alternatives": (
        {"anyOf": [{"type": "string", "pattern": f"^(.*{chr(97 + n % 26)}.{{{20 + n}}})$"} for n in range(100)]},
        "too complex",
    ),
    "multiple": ({"type": "integer", "multipleOf": 999_983}, "more than 10000"),
    "tiny multiple": ({"type": "number", "multipleOf": 1e-12}, "than nine decimals"),
    "many optional": (
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(3000)}},
        "to be enforced",  # too large or, on a slow machine, too long
    ),
    "reference to itself": ({"$ref": "#"}, "refers to itself"),
    "reference circle": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "refers to itself",
    ),
    "endless": (
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}},
        },
        "requires itself without end",
    ),
    "endless array": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}}},
        "requires itself without end",
    ),
    "missing reference": ({"$ref": "#/$defs/none"}, "is not there"),
    "missing anchor": ({"$ref": "#none"}, "is not there"),
    "other document": ({"$ref": "https://example.com/x.json"}, "another document"),
    "nothing": ({"type": "string", "enum": [1, 2]}, "nsatisfiable"),
    "closed but required": ({"type": "object", "required": ["a"], "additionalProperties": False}, "nsatisfiable"),
    "bounds crossed": ({"type": "integer", "minimum": 3, "maximum": 2}, "nsatisfiable"),
    "large bounds": ({"type": "integer", "minimum": 10**300}, "beyond what can be enforced"),
    "unique": ({"type": "array", "uniqueItems": True}, "'uniqueItems', which cannot be enforced"),
    "not": ({"type": "object", "properties": {"a": {"not": {"type": "string"}}}}, "at #/properties/a uses 'not'"),
    "conditional": ({"if": {"type": "string"}, "then": {"minLength": 2}}, "'if', which cannot be enforced"),
    "dependent": ({"type": "object", "dependentRequired": {"a": ["b"]}}, "'dependentRequired'"),
    "unknown type": ({"type": "strang"}, "a type out of"),
    "empty type": ({"type": []}, "a type out of"),
    "empty enum": ({"enum": []}, "at least one value"),
    "properties list": ({"properties": []}, "an object in 'properties'"),
    "property not a schema": ({"properties": {"a": 3}}, "at #/properties/a must be an object or a boolean"),
    "negative length": ({"type": "string", "maxLength": -1}, "zero or more, in 'maxLength'"),
    "length as text": ({"type": "string", "minLength": "a"}, "zero or more, in 'minLength'"),
    "bound as text": ({"type": "integer", "minimum": "a"}, "finite number in 'minimum'"),
    "required as text": ({"type": "object", "required": "a"}, "a list of strings in 'required'"),
    "overlapping patterns": (
        {"type": "object", "patternProperties": {"^x": {"type": "integer"}, "^xy": {"type": "string"}}},
        "not disjoint",
    ),
}

# Accepted, and cheap enough to follow.
HARMLESS: dict[str, Any] = {
    "anything": {},
    "deep": nested(60),
    "enum": {"enum": [f"value-{n}" for n in range(9000)]},
    "star of plus": {"type": "string", "pattern": "^(a+)+$"},
    "counted": {"type": "string", "pattern": "((((a{1,100}){1,100}){1,100}){1,100})"},
    "long string": {"type": "string", "minLength": 1_000_000},
    "long array": {"type": "array", "items": {"type": "integer"}, "minItems": 100_000, "maxItems": 1_000_000},
    "recursive": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}}},
    "recursive at root": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
    "fan": chain(30, lambda ref: {"type": "object", "properties": {"a": ref, "b": ref}}),
    "doubling": chain(25, lambda ref: {"allOf": [ref, ref, {"minLength": 1}]}),
    "many optional": {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(400)}},
    "unicode": {"type": "string", "pattern": "^(\\p{L}{1,60}\\p{N}{1,60}){1,20}$"},
    "multiple": {"type": "integer", "multipleOf": 9973},
}
