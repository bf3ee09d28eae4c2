"""How bare text becomes a typed value."""

from __future__ import annotations

import pytest

from portico.parsing.json_text import quoted
from portico.parsing.literals import PYTHON, transcribe
from portico.parsing.schema import Schema
from portico.parsing.values import as_json


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        ({"type": "string"}, "007", '"007"'),
        ({"type": "string"}, "null", '"null"'),
        ({"type": "string"}, ' "x" ', '" \\"x\\" "'),
        ({"type": "integer"}, " 9007199254740993\n", "9007199254740993"),
        ({"type": "integer"}, "2.0", "2"),
        ({"type": "integer"}, "six", '"six"'),
        ({"type": "integer"}, "007", '"007"'),
        ({"type": "number"}, "-2.5e3", "-2.5e3"),
        ({"type": "number"}, "nan", '"nan"'),
        ({"type": "boolean"}, "True", "true"),
        ({"type": "boolean"}, "0", "false"),
        ({"type": ["integer", "null"]}, "None", "null"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "12", "12"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "12a", '"12a"'),
        ({"type": ["string", "null"]}, "null", "null"),
        ({"enum": [1, 2]}, "2", "2"),
        ({"enum": ["1", "2"]}, "2", '"2"'),
        ({"type": "object"}, '{"a": [1,\n2]}', '{"a": [1,\n2]}'),
        ({"type": "object"}, "{'a': True, 'b': None}", '{"a": true, "b": null}'),
        ({"type": "array"}, "(1, 'x',)", '[1, "x"]'),
        ({"type": "object"}, "{not an object}", '"{not an object}"'),
        ({"type": "array"}, "7", "7"),
        ({}, "5", '"5"'),
        (None, "5", "5"),
        (None, "fast", '"fast"'),
        (None, "NaN", '"NaN"'),
        ({"type": "int64"}, "5", "5"),
        ({"type": "varchar"}, "5", '"5"'),
    ],
)
def test_typing(schema: dict[str, object] | None, text: str, expected: str) -> None:
    assert as_json(text, None if schema is None else Schema(schema)) == expected


def test_references_are_followed() -> None:
    root = {
        "properties": {"p": {"$ref": "#/$defs/P"}, "loop": {"$ref": "#/$defs/L"}, "q": {"$ref": "#/$defs/a~1b"}},
        "$defs": {
            "P": {"allOf": [{"$ref": "#/$defs/Q"}]},
            "Q": {"type": "object"},
            "L": {"$ref": "#/$defs/L"},
            "a/b": {"type": "integer"},
        },
    }
    schema = Schema(root)
    assert schema.member("p").types == {"object"}  # type: ignore[union-attr]
    assert schema.member("q").types == {"integer"}  # type: ignore[union-attr]
    assert schema.member("loop").types == frozenset()  # type: ignore[union-attr]
    assert schema.member("absent") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, -2, 'x', (1, 2), {'k': (1,)}, None, True]", '[1, -2, "x", [1, 2], {"k": [1]}, null, true]'),
        ('"""a\n"b" """', '"a\\n\\"b\\" "'),
        ("'it\\'s \\x41 \\u00e9 \\d'", '"it\'s \\u0041 \\u00e9 \\\\d"'),
        ("r'\\d'", '"\\\\d"'),
        ("'a' \"b\"", '"ab"'),
        ("0x1F", "31"),
        ("1_000", "1000"),
        (".5", "0.5"),
        ('{"a": {"b": [ 1 ]}}', '{"a": {"b": [ 1 ]}}'),
        ("{'a': 1,}", '{"a": 1}'),
        ("[f(1)]", None),
        ("[1 2]", None),
        ("[" * 200, None),
        ("__import__('os')", None),
    ],
)
def test_python_literals(text: str, expected: str | None) -> None:
    assert transcribe(text, PYTHON) == expected


def test_quoting() -> None:
    assert quoted('a"\\\n\x01é') == '"a\\"\\\\\\n\\u0001é"'
