"""Whatever a schema leaves open comes to an end, also with a model that always goes on as long as it may.

With the bounds as they are the longest texts have millions of characters, and free text ends with the token limit; so
the law is shown with small bounds, for all schemas, and the real ones each for itself.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from llguidance import LLMatcher

from portico.constraints import Limits, answer_grammar
from portico.constraints.lark import WHITE_SPACE
from portico.constraints.schema.bounds import LONGEST
from portico.constraints.trial import byte_vocabulary
from portico.grammar import Json
from support.agent_schemas import SCHEMAS
from support.constraints import bare_constraint
from support.effort import examples
from support.schemas import roots
from support.vocabulary import Model

SMALL = Limits(string=5, name=3, items=2, members=2, repeats=3, levels=(2, 3), unrolled=20)
END = 256  # the byte vocabulary's end of the answer
PREFERENCES = [b' \n\t"', b"0123456789.\\-+", b"az", b"[{,"]  # what models run on with


def lark_of(schema: Any, limits: Limits | None = None, **more: Any) -> str:
    constraint = bare_constraint(answer=Json(schema, "schema", strict=False, **more), limits=limits)
    assert constraint is not None
    return constraint.lark


def longest(lark: str, preferred: bytes, limit: int) -> bytes | None:
    """What a model writes that ends only where it must and takes ``preferred`` bytes first; None without an end."""
    matcher = LLMatcher(byte_vocabulary().build(), lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    written = bytearray()
    closing = set(b'"]}')
    while len(written) < limit:
        allowed = np.flatnonzero(np.frombuffer(matcher.compute_logit_bias(), dtype=np.uint8))
        if matcher.is_stopped() or set(allowed.tolist()) <= {END}:
            return bytes(written)
        inside = [byte for byte in allowed.tolist() if byte != END]
        choice = min(inside, key=lambda byte: (byte not in preferred, byte in closing, byte))
        matcher.consume_token(choice)
        written.append(choice)
    return None


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("preferred", PREFERENCES)
def test_the_longest_text_of_an_agents_schema_ends(name: str, preferred: bytes) -> None:
    found = longest(lark_of(SCHEMAS[name], SMALL), preferred, 30_000)
    assert found is not None
    json.loads(found)


@settings(max_examples=examples(25), suppress_health_check=list(HealthCheck))
@given(schema=roots)
def test_the_longest_text_of_any_schema_ends(schema: Any) -> None:
    if _open_beside_optional(schema):
        return  # the one kind that is not bounded, see bounds.py
    lark = lark_of(schema, SMALL)
    if "unsatisfiable" in LLMatcher(byte_vocabulary().build(), lark, log_level=0).get_error().lower():
        return  # no text is of it, so that requests with it are refused
    for preferred in PREFERENCES:
        assert longest(lark, preferred, 30_000) is not None


def _open_beside_optional(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_open_beside_optional, schema))
    if not isinstance(schema, dict):
        return False
    if schema.get("properties") and schema.get("additionalProperties", False) is not False:
        return True
    return any(map(_open_beside_optional, schema.values()))


@pytest.mark.parametrize("name", sorted(LONGEST))
def test_formats_end(name: str) -> None:
    for preferred in PREFERENCES:
        found = longest(lark_of({"type": "string", "format": name}, white_space=""), preferred, 3000)
        assert found is not None
        assert len(json.loads(found)) <= LONGEST[name]


@pytest.mark.parametrize("name", ["date-time", "time"])
def test_a_second_has_nine_decimals_at_most(name: str) -> None:
    found = longest(lark_of({"type": "string", "format": name}), b"0123456789.", 100)
    assert found is not None
    assert len(found.partition(b".")[2].rstrip(b'zZ"').partition(b"+")[0]) == 9


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date-time", "2024-02-29T23:59:60.123456789+14:00"),
        ("date-time", "2024-02-29t00:00:00Z"),
        ("time", "12:00:00.5-01:30"),
        ("duration", "P1Y2M10DT2H30M"),
        ("duration", "PT36H"),
        ("email", "first.last+tag@mail.example.co.uk"),
        ("hostname", "a-b.example.com"),
        ("uri", "https://user@example.com:8080/a/b?c=d#e"),
        ("uri", "mailto:someone@example.com"),
        ("uri", "urn:isbn:0451450523"),
        ("uri", "file:///etc/hosts"),
        ("uri", "https://example.com?q=1"),
    ],
)
def test_formats_hold_what_they_are_for(model: Model, name: str, text: str) -> None:
    assert model.accepts(lark_of({"type": "string", "format": name}), json.dumps(text))


def test_digits_of_a_pattern_end() -> None:
    found = longest(lark_of({"type": "string", "pattern": r"^\d+$"}), b"0", 1000)
    assert found == b'"' + b"0" * Limits().repeats + b'"'


def test_white_space_between_tokens_is_one_line_end_and_an_indentation() -> None:
    for pattern in (None, r"[ \n]*", r"\s+", "( |\n)*"):
        wanted = {"json": {"type": "array", "items": {"type": "null"}, "maxItems": 1}, "whitespace_pattern": pattern}
        constraint = bare_constraint(answer=answer_grammar(None, wanted))
        assert constraint is not None
        found = longest(constraint.lark, b" \nn", 3000)
        assert found is not None
        assert json.loads(found) in ([], [None])
    assert "{0,40}" in WHITE_SPACE


@pytest.mark.parametrize(
    ("schema", "key", "value"),
    [
        ({"type": "string", "maxLength": 7}, "maxLength", 7),
        ({"type": "string", "format": "time", "minLength": 30}, "maxLength", 30),
        ({"type": "string", "format": "email"}, "maxLength", LONGEST["email"]),
        ({"type": "array", "items": {"type": "null"}}, "maxItems", Limits().items),
        ({"type": "object", "additionalProperties": {"type": "null"}}, "maxProperties", Limits().members),
    ],
)
def test_the_real_bounds(schema: Any, key: str, value: int) -> None:
    assert json.loads(lark_of(schema).partition("%json ")[2])[key] == value


@pytest.mark.parametrize(
    ("schema", "key", "value"),
    [
        ({"type": "string", "format": "time", "minLength": 90}, "maxLength", 90),
        ({"type": "string", "minLength": 9}, "maxLength", 9),
        ({"type": "array", "items": {"type": "null"}, "minItems": 7}, "maxItems", 7),
        ({"type": "array", "prefixItems": [{"type": "null"}] * 4, "items": {"type": "null"}}, "maxItems", 4),
        ({"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 6}, "maxProperties", 6),
        ({"type": "object", "additionalProperties": {"type": "null"}, "required": ["a", "b", "c"]}, "maxProperties", 3),
    ],
)
def test_a_bound_gives_way_to_what_the_schema_asks_for(schema: Any, key: str, value: int) -> None:
    held = json.loads(lark_of(schema, SMALL).partition("%json ")[2])
    assert held[key] == value
    assert held == json.loads(lark_of({**schema, key: value}, SMALL).partition("%json ")[2])


def test_ordinary_long_answers_fit(model: Model) -> None:
    lark = lark_of({"type": "object", "properties": {"content": {"type": "string"}}, "required": ["content"]})
    assert model.accepts(lark, json.dumps({"content": "word \n" * 30_000}))
    lark = lark_of({"type": "array", "items": {"type": "integer"}})
    assert model.accepts(lark, json.dumps(list(range(3000))))
    lark = lark_of({"type": "object"})
    deep: Any = 1
    for level in range(12):
        deep = {f"level {level}": deep}
    assert model.accepts(lark, json.dumps(deep))
    lark = lark_of(SCHEMAS["linked"])
    chain: Any = None
    for value in range(20):
        chain = {"value": value, "next": chain}
    assert model.accepts(lark, json.dumps(chain))


NODE = {"$ref": "#/$defs/n"}
# A definition that leads back to itself, documents of it that go down once at most, and others.
RECURSIVE: dict[str, tuple[Any, list[str], list[str]]] = {
    "items": ({"type": "array", "items": NODE}, ["[]", "[[]]", "[[],[]]"], ["[[[]]]", "[null]"]),
    "prefixItems": (
        {"type": "array", "prefixItems": [{"type": "null"}, NODE, {"type": "null"}]},
        ["[]", "[null]", "[null,[null]]", "[null,[],null]"],
        ["[null,[null,[]]]", "[null,[null,null]]", "[[]]"],
    ),
    "properties": (
        {"type": "object", "properties": {"a": NODE, "b": {"type": "null"}}},
        ["{}", '{"a":{}}', '{"a":{"b":null},"b":null}'],
        ['{"a":{"a":{}}}', '{"a":null}'],
    ),
    "additionalProperties": (
        {"type": "object", "additionalProperties": NODE},
        ["{}", '{"x":{}}'],
        ['{"x":{"x":{}}}', '{"x":null}'],
    ),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^x$": NODE, "^y$": {"type": "null"}}},
        ["{}", '{"x":{"y":null},"y":null}'],
        ['{"x":{"x":{}}}', '{"x":null}'],
    ),
    "only patternProperties": (
        {"type": "object", "patternProperties": {"^x$": NODE}},
        ["{}", '{"x":{}}'],
        ['{"x":{"x":{}}}', '{"x":null}'],
    ),
    **{
        key: (
            {key: [{"type": "null"}, {"type": "array", "items": NODE}]},
            ["null", "[]", "[null,[]]"],
            ["[[null]]", "[[[]]]", "{}"],
        )
        for key in ("anyOf", "oneOf")
    },
    "allOf": (
        {"type": "object", "properties": {"a": {"allOf": [NODE, {"type": "object"}]}}},
        ["{}", '{"a":{}}'],
        ['{"a":{"a":{}}}', '{"a":null}'],
    ),
    "required": (
        {"type": ["object", "null"], "properties": {"a": NODE}, "required": ["a"]},
        ["null", '{"a":null}'],
        ["{}", '{"a":{"a":null}}'],
    ),
    "minItems": ({"type": ["array", "null"], "items": NODE, "minItems": 1}, ["null", "[null]"], ["[]", "[[null]]"]),
    "minItems in a choice": (
        {"anyOf": [{"type": "null"}, {"type": "array", "items": NODE, "minItems": 1}]},
        ["null", "[null]"],
        ["[]", "[[null]]"],
    ),
    "minItems behind others": (
        {"type": ["array", "null"], "prefixItems": [{"type": "null"}], "items": NODE, "minItems": 2},
        ["null", "[null,null]"],
        ["[null]", "[null,[null,null]]"],
    ),
    "minProperties": (
        {"type": ["object", "null"], "additionalProperties": NODE, "minProperties": 1},
        ["null", '{"x":null}'],
        ["{}", '{"x":{"x":null}}'],
    ),
    "minProperties beside others": (
        {
            "type": ["object", "null"],
            "properties": {"a": {"type": "null"}},
            "required": ["a"],
            "additionalProperties": NODE,
            "minProperties": 1,
        },
        ["null", '{"a":null}', '{"a":null,"x":{"a":null}}'],
        ["{}", '{"a":null,"x":{"a":null,"x":null}}'],
    ),
    "minProperties beside patterns": (
        {
            "type": ["object", "null"],
            "patternProperties": {"^a$": {"type": "null"}, "^x$": NODE},
            "minProperties": 1,
        },
        ["null", '{"a":null}', '{"x":{"a":null}}'],
        ["{}", '{"x":{"x":{"a":null}}}'],
    ),
}


@pytest.mark.parametrize("name", RECURSIVE)
def test_what_leads_back_to_itself_goes_down_some_levels(model: Model, name: str) -> None:
    body, yes, no = RECURSIVE[name]
    lark = lark_of({**NODE, "$defs": {"n": body}}, replace(SMALL, levels=(2, 2)))
    assert [text for text in yes if not model.accepts(lark, text)] == []
    assert [text for text in no if model.accepts(lark, text)] == []


def test_what_needs_many_levels_gets_them(model: Model) -> None:
    """A document of this schema has a hundred objects inside each other at least."""
    rings = {f"r{n}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/r{(n + 1) % 100}"}}, "required": ["a"]}
             for n in range(100)}  # fmt: skip
    rings["r99"]["required"] = []
    lark = lark_of({"$ref": "#/$defs/r50", "$defs": rings}, replace(Limits(), schema_depth=64))
    document: Any = {}
    for _ in range(49):
        document = {"a": document}
    assert model.accepts(lark, json.dumps(document))


def test_engines_that_take_structural_tags_get_no_large_counts() -> None:
    from portico.constraints import compile_constraint

    answer = answer_grammar({"type": "json_schema", "json_schema": {"schema": SCHEMAS["todo"]}})
    found = compile_constraint(answer=answer, with_structural_tag=True)
    assert found is not None
    assert "maxItems" not in json.dumps(found.constraint.structural_tag)
