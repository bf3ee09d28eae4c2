"""Which calls a request allows."""

from __future__ import annotations

from typing import Any

import pytest

from portico.constraints import call_policy
from portico.errors import BadRequestError


def tool(name: str, **more: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


ADD, SUB = tool("add"), tool("sub")
NAMED = {"type": "function", "function": {"name": "sub"}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [{"type": "function", "function": {"name": name}} for name in names]},
    }


@pytest.mark.parametrize(
    ("choice", "parallel", "names", "low", "high", "binding"),
    [
        (None, None, "add sub", 0, None, False),
        ("auto", True, "add sub", 0, None, False),
        ("auto", False, "add sub", 0, 1, True),
        ("required", None, "add sub", 1, None, True),
        ("required", False, "add sub", 1, 1, True),
        (NAMED, None, "sub", 1, 1, True),
        ({"type": "function", "name": "sub"}, True, "sub", 1, 1, True),
        (allowed("auto", "add"), None, "add", 0, None, False),
        (allowed("required", "add", "sub"), None, "add sub", 1, None, True),
        (allowed("required", "sub"), False, "sub", 1, 1, True),
    ],
)
def test_choices(choice: Any, parallel: bool | None, names: str, low: int, high: int | None, binding: bool) -> None:
    policy = call_policy([ADD, SUB], choice, parallel)
    assert policy is not None
    assert ([one.name for one in policy.tools], policy.low, policy.high) == (names.split(), low, high)
    assert policy.binding is binding


@pytest.mark.parametrize("choice", [None, "required", NAMED, allowed("auto", "add", "sub")])
def test_arguments_know_their_field_however_free_they_are(choice: Any) -> None:
    written = {"type": "custom", "custom": {"name": "write"}}
    policy = call_policy([ADD, written, tool("sub", strict=True)], choice)
    assert policy is not None
    fields = {one.name: one.arguments.param for one in policy.tools}
    known = ("add", "tools[0].function.parameters"), ("sub", "tools[2].function.parameters")
    assert fields.items() <= {*known, ("write", "tools[1].custom.format")}


@pytest.mark.parametrize(("tools", "choice"), [([ADD], "none"), ([], None), (None, "auto"), ([], "none")])
def test_no_calls(tools: Any, choice: Any) -> None:
    assert call_policy(tools, choice) is None


def test_strict_binds_its_tool_and_leaves_the_others_free() -> None:
    policy = call_policy([ADD, tool("strict", strict=True)], "auto")
    assert policy is not None
    free, strict = policy.tools
    assert (policy.binding, policy.strict) == (True, "tools[1].function.strict")
    assert (free.arguments.schema, free.arguments.strict) == ({"type": "object"}, False)
    assert strict.arguments.strict
    assert strict.arguments.schema["properties"] == {"n": {"type": "integer"}}  # type: ignore[index]
    assert strict.arguments.param == "tools[1].function.parameters"


def test_forced_calls_follow_their_schemas_strict_or_not() -> None:
    policy = call_policy([ADD, tool("strict", strict=True)], "required")
    assert policy is not None
    assert [(one.arguments.strict, "properties" in one.arguments.schema) for one in policy.tools] == [  # type: ignore[operator]
        (False, True),
        (True, True),
    ]


@pytest.mark.parametrize(
    ("parameters", "schema"),
    [
        (None, {"type": "object", "properties": {}}),
        ({}, {"type": "object"}),
        ({"properties": {}}, {"type": "object", "properties": {}}),
        ({"$ref": "#/$defs/a", "$defs": {"a": {}}}, {"$ref": "#/$defs/a", "$defs": {"a": {}}}),
    ],
)
def test_parameters_are_an_object(parameters: Any, schema: Any) -> None:
    policy = call_policy([{"type": "function", "function": {"name": "f", "parameters": parameters}}], "required")
    assert policy is not None
    assert policy.tools[0].arguments.schema == schema


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([], "required", "tool_choice"),
        ([ADD], NAMED, "tool_choice"),
        ([ADD], allowed("auto", "sub"), "tool_choice"),
        ([ADD], "any", "tool_choice"),
        ([ADD], {"type": "function"}, "tool_choice"),
        ([ADD], {"type": "allowed_tools"}, "tool_choice"),
        ([ADD, {"type": "function", "function": {}}], "auto", "tools[1].function.name"),
        ([tool("f", parameters={"type": "array"})], "required", "tools[0].function.parameters"),
        ([tool("f", parameters=[])], "required", "tools[0].function.parameters"),
    ],
)
def test_refusals_name_the_field(tools: Any, choice: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        call_policy(tools, choice)
    assert caught.value.param == param
