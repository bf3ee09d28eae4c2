"""Schemas: whatever a grammar lets through, the client's own schema accepts, and it comes to an end."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portico.constraints import Limits
from portico.constraints.schema import normalise
from portico.errors import BadRequestError
from portico.grammar import Json
from support.constraints import bare_constraint
from support.effort import examples
from support.schemas import roots
from support.vocabulary import Model


def lark_of(schema: Any, *, strict: bool = True) -> str:
    constraint = bare_constraint(answer=Json(schema, "schema", strict))
    assert constraint is not None
    return constraint.lark


def held(schema: Any, *, strict: bool = True) -> dict[str, Any]:
    return normalise(schema, param="schema", strict=strict, limits=Limits()).schema


def accepted(schema: Any, document: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(document))


# -- the law ----------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(50), suppress_health_check=list(HealthCheck))
@given(schema=roots, seed=st.integers(0, 1_000_000))
def test_what_is_written_is_what_the_schema_accepts(model: Model, schema: Any, seed: int) -> None:
    text = model.write(lark_of(schema), seed)
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))


@settings(max_examples=examples(25), suppress_health_check=list(HealthCheck))
@given(schema=roots)
def test_normalising_again_changes_nothing(schema: Any) -> None:
    once = held(schema)
    again = held(once)
    assert _renamed(again) == _renamed(once)


def _renamed(schema: dict[str, Any]) -> list[str]:
    """Root and definitions, without the names of these."""
    texts = [json.dumps({**schema, "$defs": None}), *sorted(map(json.dumps, schema.get("$defs", {}).values()))]
    return [re.sub(r"(?<=\$defs/)\w+", "", text) for text in texts]


NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    "required": ["name"],
}
CAT = {"properties": {"kind": {"const": "cat", "title": "Kind"}, "lives": {"type": "integer"}}, "required": ["kind"]}
DOG = {
    "properties": {"kind": {"const": "dog"}, "tricks": {"type": "array", "items": {"type": "string"}}},
    "required": ["kind", "tricks"],
}
PET = {
    "discriminator": {"propertyName": "kind"},
    "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
}
RICH: dict[str, Any] = {
    "tree": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "pydantic": {
        "$defs": {"Cat": CAT, "Dog": DOG},
        "type": "object",
        "properties": {
            "pet": PET,
            "born": {"type": "string", "format": "date"},
            "weight": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}], "default": None},
            "tags": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
        "required": ["pet", "born"],
    },
    "single allOf": {
        "type": "object",
        "properties": {"a": {"allOf": [{"$ref": "#/definitions/A"}], "description": "an A"}},
        "required": ["a"],
        "definitions": {"A": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
    },
    "allOf": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "string", "maxLength": 5}}, "required": ["b"]},
        ]
    },
    "reference with siblings": {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/n", "maximum": 5}},
        "required": ["a"],
        "$defs": {"n": {"type": "integer", "minimum": 0}},
    },
    "anchor": {
        "type": "object",
        "properties": {"a": {"$ref": "#there"}},
        "$defs": {"x": {"$anchor": "there", "type": "boolean"}},
    },
    "pointer into properties": {
        "type": "object",
        "properties": {"a/b": {"type": "integer"}, "c": {"$ref": "#/properties/a~1b"}},
        "required": ["a/b", "c"],
    },
    "tuple": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string", "maxLength": 3}], "minItems": 2},
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^x-[a-z]{1,4}$": {"type": "integer"}},
        "additionalProperties": False,
    },
    "map": {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 2},
    "required but not listed": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["z"]},
    "any": {"type": "object"},
    "list of anything": {"type": "array"},
}


@pytest.mark.parametrize("name", RICH)
def test_rich_schemas(name: str, model: Model) -> None:
    lark = lark_of(RICH[name])
    for seed in range(12):
        document = json.loads(model.write(lark, seed))
        jsonschema.Draft202012Validator(RICH[name]).validate(document)


def test_ordinary_documents_are_accepted(model: Model) -> None:
    lark = lark_of(RICH["pydantic"])
    document = {"pet": {"kind": "cat", "lives": 9}, "born": "2024-02-29", "weight": 4.25, "tags": {"ß": -1}}
    for indent in (None, 2, 4, "\t"):
        assert model.accepts(lark, json.dumps(document, indent=indent, ensure_ascii=False))
    assert model.accepts(lark, json.dumps(document, separators=(",", ":"), ensure_ascii=False))
    assert not model.accepts(lark, json.dumps({**document, "more": 1}))
    assert not model.accepts(lark, json.dumps({**document, "born": "yesterday"}))


# -- what keeps a model from running on -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "fits", "exceeds"),
    [
        ({"type": "integer"}, "-9007199254740991", "9007199254740992"),
        ({"type": "integer", "minimum": 3}, "9007199254740991", "90071992547409910"),
        ({"type": "integer", "minimum": 10**17}, "100000000000000000", "99999999999999999"),
        ({"type": "number"}, "0.333333333", "0.3333333333"),
        ({"type": "number"}, "-999999999999999.5", "10000000000000000"),
        ({"type": "number"}, "1.5", "1e5"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "0.123456789", "0.1234567890"),
        ({"type": "integer", "multipleOf": 10}, "999999999990", "9999999999990"),
        ({"type": "object"}, '{"a": 1.5}', '{"a": 1.0000000001}'),
        ({"type": "array"}, "[[9]]", "[[99999999999999999]]"),
        ({"type": "array", "items": {"type": "null"}}, "[ null,\n    null]", "[  null]"),
    ],
)
def test_limits_of_what_is_written(model: Model, schema: Any, fits: str, exceeds: str) -> None:
    lark = lark_of(schema)
    assert model.accepts(lark, fits)
    assert accepted(schema, json.loads(fits, parse_float=Decimal))
    assert not model.accepts(lark, exceeds)


def test_an_object_with_properties_is_closed_unless_it_says_otherwise(model: Model) -> None:
    listed = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert not model.begins(lark_of(listed), '{"b"')
    assert model.accepts(lark_of({**listed, "additionalProperties": True}), '{"a": 1, "b": [2]}')
    assert model.accepts(lark_of({"allOf": [listed, {"type": "object", "properties": {"b": {}}}]}), '{"a": 1, "b": 2}')


# -- other spellings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, {"type": "integer", "exclusiveMinimum": 1}),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": False}, {"type": "integer", "minimum": 1}),
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"enum": ["a"], "nullable": True}, {"enum": ["a", None]}),
        ({"type": "array", "items": [{"type": "null"}]}, {"type": "array", "prefixItems": [{"type": "null"}]}),
        (
            {"type": "array", "items": [{"type": "null"}], "additionalItems": {"type": "string"}},
            {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "string"}},
        ),
        (
            {"type": "object", "propertyNames": {"enum": ["a"]}, "additionalProperties": {"type": "null"}},
            {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False},
        ),
        (
            {"type": "object", "propertyNames": {"pattern": "^a$"}},
            {"type": "object", "patternProperties": {"^a$": True}, "additionalProperties": False},
        ),
        ({"oneOf": [{"type": "null"}, {"type": "boolean"}]}, {"anyOf": [{"type": "null"}, {"type": "boolean"}]}),
        ({"properties": {"a": {"type": "null"}}}, {"type": "object", "properties": {"a": {"type": "null"}}}),
        ({"type": "string", "title": "T", "default": 1, "x-y": {}, "$comment": ""}, {"type": "string"}),
        ({"type": "string", "format": "phone-number"}, {"type": "string"}),
        ({"type": "array", "uniqueItems": False}, {"type": "array"}),
        ({"type": "object", "required": True}, {"type": "object"}),
        ({"type": "string", "maxLength": 3.0}, {"type": "string", "maxLength": 3}),
        ({"type": "integer", "minimum": -1e300}, {"type": "integer"}),
    ],
)  # fmt: skip
def test_spellings(old: Any, new: Any) -> None:
    assert held(old) == held(new)


def test_without_strict_the_rest_is_enforced() -> None:
    schema = {"type": "array", "items": {"type": "null"}, "uniqueItems": True}
    assert held(schema, strict=False) == held({"type": "array", "items": {"type": "null"}})
    with pytest.raises(BadRequestError, match="uniqueItems"):
        held(schema)


def test_the_clients_schema_is_left_as_it_is() -> None:
    schema = RICH["pydantic"]
    before = json.dumps(schema)
    held(schema)
    assert json.dumps(schema) == before


# -- what is no schema ------------------------------------------------------------------------------------------------

NONE_OF_THEM: dict[str, list[Any]] = {
    "type": [3, "text", [], ["string", 3]],
    "enum": [3, []],
    **{key: ["1", float("nan"), {}] for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")},
    "multipleOf": ["1", 0, -1, True],
    **{key: [-1, 1.5, True, "1"] for key in ("minLength", "maxLength", "minItems", "maxItems", "minProperties")},
    "pattern": [3],
    "required": ["a", ["a", 3], {}],
    **{key: [3, "string"] for key in ("items", "additionalProperties")},
    **{key: [3, [], {}] for key in ("prefixItems", "anyOf", "oneOf", "allOf")},
    **{key: [3, ["a"]] for key in ("properties", "patternProperties")},
}


@pytest.mark.parametrize("key", NONE_OF_THEM)
def test_a_keyword_with_a_value_of_another_kind_is_refused_where_it_stands(key: str) -> None:
    place = rf"^schema: the schema at #/properties/p(/{key})? must (have|be) (a|an) "
    for value in NONE_OF_THEM[key]:
        with pytest.raises(BadRequestError, match=place) as caught:
            held({"type": "object", "properties": {"p": {key: value}}})
        assert (caught.value.param, caught.value.code) == ("schema", "invalid_json_schema")


def test_a_place_is_a_pointer() -> None:
    with pytest.raises(BadRequestError, match=r"at #/properties/a~1b~0c/anyOf/1 must"):
        held({"properties": {"a/b~c": {"anyOf": [{}, {"type": 3}]}}})
