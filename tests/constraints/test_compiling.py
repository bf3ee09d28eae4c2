"""All promises of a request together: calls, answer, thought."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import jsonschema
import pytest

from portico.constraints import Checker, answer_grammar, call_policy, thinking
from portico.errors import BadRequestError, NotSupportedError
from portico.events import Constraint
from portico.grammar import Exactly, Frame, Pattern
from support.constraints import ADD, BAD, GOOD, POINT, SUB, bare_constraint, tools
from support.families import FAMILIES, ONE, TWO, section, tagged
from support.vocabulary import Model


def compiled(
    model: Model,
    family: str,
    choice: Any = "auto",
    *,
    strict: bool | None = None,
    parallel: bool | None = None,
    response_format: Any = None,
    frame: Frame | None = None,
) -> Constraint | None:
    policy = call_policy(tools(strict=strict), choice, parallel)
    return bare_constraint(
        answer=answer_grammar(response_format),
        policy=policy,
        calls=FAMILIES[family](policy) if policy else None,
        frame=frame,
        control_tokens=model.names,
    )


def lark_of(model: Model, family: str, choice: Any = "auto", **more: Any) -> str:
    constraint = compiled(model, family, choice, **more)
    assert constraint is not None
    return constraint.lark


every_family = pytest.mark.parametrize("family", FAMILIES)


@every_family
def test_required_is_calls_and_nothing_else(model: Model, checker: Checker, family: str) -> None:
    constraint = compiled(model, family, "required")
    assert constraint is not None
    checker.check(constraint)
    assert model.accepts(constraint.lark, ONE[family] % GOOD)
    assert model.accepts(constraint.lark, TWO[family].replace("%s", GOOD))
    assert not model.accepts(constraint.lark, ONE[family] % BAD)
    assert not model.begins(constraint.lark, "Hello")
    assert not model.accepts(constraint.lark, "")


@every_family
def test_one_call_only(model: Model, family: str) -> None:
    named = {"type": "function", "function": {"name": "add"}}
    for lark in (lark_of(model, family, "required", parallel=False), lark_of(model, family, named)):
        assert model.accepts(lark, ONE[family] % GOOD)
        assert not model.accepts(lark, TWO[family].replace("%s", GOOD))
    assert not model.begins(lark_of(model, family, named), (ONE[family] % GOOD).replace("add", "sub")[:34])


@every_family
def test_what_is_forced_follows_its_schema(model: Model, family: str) -> None:
    """Random walks: names are declared, arguments are valid, and there is an end."""
    lark = lark_of(model, family, "required")
    for seed in range(15):
        text = model.write(lark, seed)
        calls = _calls(text, family)
        assert calls
        for name, arguments in calls:
            jsonschema.validate(json.loads(arguments), {"add": ADD, "sub": SUB}[name])


def _calls(text: str, family: str) -> list[tuple[str, str]]:
    """The calls in a text, by the simplest reader that will do."""
    decoder = json.JSONDecoder()
    patterns = {
        "tagged": r'<tool_call>\n\{"name": "(\w+)", "arguments": ',
        "token": r"<\|im_start\|>(\w+)\[ARGS\]",
        "section": r"<call>(\w+):",
        "bare": r'\{"name": "(\w+)", "parameters": ',
        "list": r'\{"name": "(\w+)", "parameters": ',
    }
    found = []
    for match in re.finditer(patterns[family], text):
        _, end = decoder.raw_decode(text, match.end())
        found.append((match[1], text[match.end() : end]))
    return found


@every_family
def test_auto_alone_is_no_constraint(model: Model, family: str) -> None:
    assert compiled(model, family) is None
    assert compiled(model, family, "none") is None


@every_family
def test_strict_in_auto_leaves_text_free_and_holds_calls(model: Model, family: str) -> None:
    lark = lark_of(model, family, strict=True)
    assert model.accepts(lark, "Hello, how are you? 1 < 2.")
    assert model.accepts(lark, "") or family in ("bare", "list")
    assert model.accepts(lark, ONE[family] % GOOD)
    assert not model.accepts(lark, ONE[family] % BAD)
    assert not model.accepts(lark, (ONE[family] % GOOD).replace("add", "mul"))


@pytest.mark.parametrize("family", ["tagged", "token", "section"])
def test_calls_behind_text(model: Model, family: str) -> None:
    lark = lark_of(model, family, strict=True)
    assert model.accepts(lark, f"Let me see. {ONE[family] % GOOD} And again: {ONE[family] % GOOD} Done.")
    assert not model.accepts(lark, f"Let me see. {ONE[family] % BAD}")
    single = lark_of(model, family, parallel=False)
    assert model.accepts(single, "Only text.")
    assert model.accepts(single, f"Let me see. {ONE[family] % GOOD}")
    assert not model.accepts(single, f"Let me see. {ONE[family] % GOOD} And again: {ONE[family] % GOOD}")


@every_family
def test_an_answer_or_calls(model: Model, checker: Checker, family: str) -> None:
    constraint = compiled(model, family, response_format=POINT)
    assert constraint is not None
    checker.check(constraint)
    assert model.accepts(constraint.lark, '{"x": 5}')
    assert model.accepts(constraint.lark, ONE[family] % GOOD)
    assert not model.begins(constraint.lark, "Hello")
    assert not model.accepts(constraint.lark, '{"x": "5"}')


@every_family
def test_forced_calls_go_before_the_answer(model: Model, family: str) -> None:
    lark = lark_of(model, family, "required", response_format=POINT)
    assert model.accepts(lark, ONE[family] % GOOD)
    assert not model.accepts(lark, '{"x": 5}')


def test_bare_calls_beside_an_answer_keep_their_references(model: Model) -> None:
    parameters = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "n": {"$ref": "#/$defs/n"}},
        "required": ["n"],
        "$defs": {"n": {"type": "integer"}},
    }
    policy = call_policy([{"type": "function", "function": {"name": "add", "parameters": parameters, "strict": True}}])
    assert policy is not None
    constraint = bare_constraint(answer=answer_grammar(POINT), policy=policy, calls=FAMILIES["bare"](policy))
    assert constraint is not None
    assert model.accepts(constraint.lark, ONE["bare"] % '{"next": {"n": 1}, "n": 2}')
    assert not model.accepts(constraint.lark, ONE["bare"] % '{"next": {"n": "1"}, "n": 2}')


# -- thought ----------------------------------------------------------------------------------------------------------

THINK = (("<think>",), ("</think>",))


def test_a_thought_that_the_prompt_left_open(model: Model) -> None:
    frame = thinking(*THINK, is_open=True)
    lark = lark_of(model, "tagged", "required", frame=frame)
    call = ONE["tagged"] % GOOD
    assert model.accepts(lark, f'Hm. {{"a": "<tool_call>"}}\n</think>\n\n{call}')
    assert model.accepts(lark, f"</think>{call}")
    assert not model.accepts(lark, call)
    assert not model.begins(lark, "Hm.</think>\n\nHello")


def test_a_thought_that_may_come(model: Model) -> None:
    frame = thinking(*THINK, is_open=False)
    lark = lark_of(model, "tagged", "none", response_format=POINT, frame=frame)
    assert model.accepts(lark, '<think>\nHm.\n</think>\n\n{"x": 1}')
    assert model.accepts(lark, '{"x": 1}')
    assert not model.begins(lark, "Hm.")
    assert not model.accepts(lark, "<think>Hm.</think>")


def test_markers_that_are_special_tokens(model: Model) -> None:
    frame = thinking(("<|im_start|>",), ("<repo_name>", "</think>"), is_open=False)
    lark = lark_of(model, "tagged", "none", response_format=POINT, frame=frame)
    for closer in ("<repo_name>", "</think>"):
        assert model.accepts(lark, f'<|im_start|>thinking{closer}\n{{"x": 1}}')
    assert not model.accepts(lark, '<|im_start|>thinking\n{"x": 1}')


def test_a_thought_in_front_of_prose_with_calls(model: Model) -> None:
    lark = lark_of(model, "section", strict=True, frame=thinking(*THINK, is_open=True))
    assert model.accepts(lark, f"Hm.</think>\n\nI will add. {ONE['section'] % GOOD}")
    assert not model.accepts(lark, f"Hm.</think>\n\nI will add. {ONE['section'] % BAD}")


def test_a_header_stands_in_front_of_the_answer_alone(model: Model) -> None:
    frame = Frame(thought=Pattern("analysis [a-z ]{0,20};"), header=Exactly("final:"))
    lark = lark_of(model, "tagged", response_format=POINT, frame=frame)
    assert model.accepts(lark, 'analysis of it;final:{"x": 1}')
    assert model.accepts(lark, 'final:{"x": 1}')
    assert model.accepts(lark, ONE["tagged"] % GOOD)
    assert not model.accepts(lark, '{"x": 1}')
    free = lark_of(model, "tagged", strict=True, frame=frame)
    assert model.accepts(free, "final:Hello")
    assert model.accepts(free, ONE["tagged"] % GOOD)
    assert not model.begins(free, "Hello")


# -- what cannot be ---------------------------------------------------------------------------------------------------


def test_a_family_without_a_grammar() -> None:
    policy = call_policy(tools(), "required")
    with pytest.raises(NotSupportedError) as caught:
        bare_constraint(policy=policy)
    assert caught.value.param == "tool_choice"
    assert bare_constraint(policy=call_policy(tools(strict=True), "auto")) is None
    assert bare_constraint(policy=call_policy(tools(), "auto"), answer=answer_grammar(POINT)) is not None


@every_family
@pytest.mark.parametrize("answer", [None, POINT], ids=["text", "answer"])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_every_schema_names_its_field(model: Model, family: str, choice: str, answer: Any) -> None:
    lines = lark_of(model, family, choice, strict=True, response_format=answer).splitlines()
    fields = [before for before, rule in pairwise(lines) if rule.startswith("json_")]
    assert fields
    known = {f"// field: tools[{index}].function.parameters" for index in (0, 1)}
    assert set(fields) <= (known | {"// field: response_format.json_schema.schema"} if answer else known)


def test_errors_name_the_tool(checker: Checker) -> None:
    broken = {"type": "object", "properties": {"p": {"enum": [1], "type": "string"}}, "required": ["p"]}
    many = [*tools(), {"type": "function", "function": {"name": "broken", "parameters": broken}}]
    policy = call_policy(many, "required")
    assert policy is not None
    constraint = bare_constraint(policy=policy, calls=tagged(policy))
    assert constraint is not None
    with pytest.raises(BadRequestError) as caught:
        checker.check(constraint)
    assert caught.value.param == "tools[2].function.parameters"

    many[1]["function"] |= {"strict": True, "parameters": {"type": "object", "not": {}}}
    policy = call_policy(many, "required")
    assert policy is not None
    with pytest.raises(BadRequestError) as caught:
        bare_constraint(policy=policy, calls=section(policy))
    assert caught.value.param == "tools[1].function.parameters"


def test_a_request_with_very_many_tools_stays_in_bounds() -> None:
    def large(tool: int) -> dict[str, Any]:
        return {"type": "object", "properties": {f"p{n}": {"const": f"{tool} {n} " + "x" * 50} for n in range(100)}}

    many = [{"type": "function", "function": {"name": f"t{n}", "parameters": large(n)}} for n in range(512)]
    policy = call_policy(many, "required")
    assert policy is not None
    with pytest.raises(BadRequestError, match="at most 1000000"):
        bare_constraint(policy=policy, calls=tagged(policy))
