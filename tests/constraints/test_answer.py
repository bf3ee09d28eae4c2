"""``response_format`` and ``structured_outputs``: what they let through, and what they are refused for."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from portico.constraints import OLDER, answer_grammar, compile_constraint
from portico.errors import BadRequestError
from portico.grammar import Json
from support.constraints import bare_constraint
from support.vocabulary import Model

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def lark_of(response_format: Any, structured_outputs: Any = None, older: Any = None) -> str:
    constraint = bare_constraint(answer=answer_grammar(response_format, structured_outputs, older=older))
    assert constraint is not None
    return constraint.lark


@pytest.mark.parametrize(
    ("response_format", "structured_outputs"),
    [(None, None), ({"type": "text"}, None), (None, {}), (None, {"json": None, "disable_any_whitespace": True})],
)
def test_no_promise_no_grammar(response_format: Any, structured_outputs: Any) -> None:
    assert bare_constraint(answer=answer_grammar(response_format, structured_outputs)) is None


@pytest.mark.parametrize(
    ("response_format", "structured_outputs", "yes", "no"),
    [
        ({"type": "json_object"}, None, ['{"a": [1, {}]}', "{}"], ["[]", "1", '{"a"}']),
        ({"type": "json_schema", "json_schema": {"schema": POINT}}, None, ["{\"x\": 1}"], ["{}", "{\"x\":1.5}"]),
        (None, {"json": POINT}, ['{"x": 1}', '{\n  "x": 1\n}'], ["{}"]),
        (None, {"json": '{"type": "boolean"}'}, ["true"], ["1"]),
        (None, {"json_object": True}, ['{"a": null}'], ["null"]),
        (None, {"json": POINT, "disable_any_whitespace": True}, ['{"x":1}'], ['{"x": 1}']),
        (None, {"json_object": True, "disable_any_whitespace": True}, ['{"x":1}'], ['{"x": 1}']),
        (None, {"json": POINT, "whitespace_pattern": " {1,2}"}, ['{"x":  1}'], ['{"x":   1}', '{\n"x":1}']),
        (None, {"regex": r"\d{3}-[a-f/]+"}, ["123-a/f"], ["12-a", "123-a/fx"]),
        (None, {"regex": "^(yes|no)$"}, ["yes", "no"], ["yesno"]),
        (None, {"choice": ["red", 'a "quoted" one', "naïve"]}, ["red", 'a "quoted" one', "naïve"], ["re", "redred"]),
        (None, {"grammar": 'root ::= "a" [0-9]{2}'}, ["a42"], ["a4"]),
        (None, {"grammar": "start: WORD (\",\" WORD)*\nWORD: /[a-z]+/"}, ["a,bc"], ["a,"]),
        (
            {"type": "structural_tag", "format": {"type": "const_string", "value": "hi"}},
            None,
            ["hi"],
            ["ho"],
        ),
    ],
)  # fmt: skip
def test_languages(model: Model, response_format: Any, structured_outputs: Any, yes: list[str], no: list[str]) -> None:
    lark = lark_of(response_format, structured_outputs)
    assert [text for text in yes if not model.accepts(lark, text)] == []
    assert [text for text in no if model.accepts(lark, text)] == []


@pytest.mark.parametrize(
    ("response_format", "structured_outputs", "param"),
    [
        ({"type": "json"}, None, "response_format.type"),
        ({}, {"regex": 3}, "structured_outputs.regex"),
        ({"type": "json_schema"}, None, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, None, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"schema": POINT}}, {"regex": "a"}, "structured_outputs.regex"),
        (None, {"regex": "a", "choice": ["a"]}, "structured_outputs.choice"),
        ({"type": "json_object", "schema": 3}, None, "response_format.schema"),
        (None, {"json": POINT, "whitespace_pattern": "(?=a)"}, "structured_outputs.whitespace_pattern"),
        (None, {"regex": ""}, "structured_outputs.regex"),
        (None, {"choice": "ab"}, "structured_outputs.choice"),
        (None, {"choice": [""]}, "structured_outputs.choice"),
        (None, {"json": 3}, "structured_outputs.json"),
        (None, {"json": POINT, "whitespace_pattern": 3}, "structured_outputs.whitespace_pattern"),
        (None, {"grammar": 5}, "structured_outputs.grammar"),
        ({"type": "structural_tag"}, None, "response_format"),
        *(
            (
                {"type": "json_schema", "json_schema": {"schema": POINT, key: value}},
                None,
                f"response_format.json_schema.{key}",
            )
            for key, values in {"name": [3, "", "a b", "n" * 65], "description": [3], "strict": ["yes"]}.items()
            for value in values
        ),
    ],
)  # fmt: skip
def test_refusals_name_the_field(response_format: Any, structured_outputs: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        answer_grammar(response_format, structured_outputs)
    assert caught.value.param == param
    assert param.split(".")[0] in caught.value.message


@pytest.mark.parametrize(
    ("older", "like"),
    [
        ({"guided_json": POINT}, {"json": POINT}),
        ({"guided_json": json.dumps(POINT)}, {"json": POINT}),
        ({"guided_json": POINT, "guided_whitespace_pattern": " "}, {"json": POINT, "whitespace_pattern": " "}),
        ({"guided_regex": "a+"}, {"regex": "a+"}),
        ({"guided_choice": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"guided_grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
        ({"grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
        ({"json_schema": POINT}, {"json": POINT}),
    ],
)
def test_older_fields_say_the_same(older: Any, like: Any) -> None:
    named = re.compile("// field: .*")
    assert named.sub("", lark_of(None, None, older)) == named.sub("", lark_of(None, like))
    for field in OLDER.keys() & older.keys():
        assert f"// field: {field}" in lark_of(None, None, older) or field == "guided_choice"


@pytest.mark.parametrize(
    "format_", [{"type": "json_object", "schema": POINT}, {"type": "json_schema", "schema": POINT}]
)
def test_a_schema_beside_the_type_of_the_format_is_kept(model: Model, format_: Any) -> None:
    lark = lark_of(format_)
    assert model.accepts(lark, '{"x": 1}')
    assert not model.accepts(lark, "{}")


@pytest.mark.parametrize(
    ("response_format", "structured", "older", "param"),
    [
        (None, {"regex": "a"}, {"guided_regex": "b"}, "guided_regex"),
        (None, None, {"guided_json": POINT, "json_schema": {"type": "integer"}}, "json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": POINT}}, None, {"grammar": "start: /a/"}, "grammar"),
    ],
)
def test_what_contradicts_is_refused(response_format: Any, structured: Any, older: Any, param: str) -> None:
    with pytest.raises(BadRequestError, match="something else than") as caught:
        answer_grammar(response_format, structured, older=older)
    assert caught.value.param == param


UNIQUE = {"type": "array", "items": {"type": "null"}, "uniqueItems": True}


@pytest.mark.parametrize(
    ("parts", "param", "strict"),
    [
        (({"type": "json_schema", "json_schema": {"schema": UNIQUE}},), "response_format.json_schema.schema", False),
        (({"type": "json_schema", "json_schema": {"schema": UNIQUE, "strict": True}},),
         "response_format.json_schema.schema", True),
        (({"type": "json_schema", "schema": UNIQUE},), "response_format.schema", False),
        (({"type": "json_object", "schema": UNIQUE},), "response_format.schema", False),
        ((None, {"json": UNIQUE}), "structured_outputs.json", False),
        ((None, None, None, {"guided_json": UNIQUE}), "guided_json", False),
        ((None, None, None, {"json_schema": UNIQUE}), "json_schema", False),
    ],
)  # fmt: skip
def test_only_strict_refuses_what_cannot_be_held(parts: Any, param: str, strict: bool) -> None:
    answer = answer_grammar(*parts)
    if strict:
        with pytest.raises(BadRequestError, match="uniqueItems") as caught:
            compile_constraint(answer=answer)
        assert caught.value.param == param
        return
    compiled = compile_constraint(answer=answer)
    assert compiled is not None
    assert compiled.left_out == (f"uniqueItems in {param}",)


def test_what_says_the_same_twice_is_no_contradiction() -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": POINT}}
    assert answer_grammar(schema, {"json": POINT}, older={"guided_json": POINT}) is not None
    narrower = answer_grammar({"type": "json_object"}, None, older={"json_schema": POINT})
    assert isinstance(narrower, Json)
    assert narrower.schema == POINT
