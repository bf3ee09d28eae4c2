"""What a request promises: each engine gets it in the form that it takes, or the field is named that it cannot keep."""

from __future__ import annotations

from typing import Any

import pytest

from portico.errors import BadRequestError, NotSupportedError
from portico.generation.model import Limits
from portico.generation.promise import Promise, promised
from support.custom_tools import CASES, tool
from support.generation import tiny_model, tiny_tokenizer

ANSWER = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"n": {"type": "null"}}}}}
PLAIN = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
STRICT = {"type": "function", "function": {**PLAIN["function"], "strict": True}}  # type: ignore[dict-item]
WRITTEN = tool(next(iter(CASES.values())))  # a custom tool, whose grammar is held

# What is asked for -> the field that an engine without grammars is refused on.
ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "a format": ({"response_format": ANSWER}, "response_format"),
    "vLLM's word": ({"structured_outputs": {"regex": "a+"}}, "structured_outputs"),
    "an older word": ({"older": {"guided_regex": "a+"}}, "guided_regex"),
    "a call": ({"tools": [PLAIN], "tool_choice": "required"}, "tool_choice"),
    "a strict tool": ({"tools": [PLAIN, STRICT]}, "tools[1].function.strict"),
    "a format beside tools": ({"response_format": ANSWER, "tools": [STRICT]}, "response_format"),
}
ENGINES = [frozenset({"constraints"}), frozenset({"structural_tags"}), frozenset({"constraints", "structural_tags"})]


def ask(*capabilities: str, asked: dict[str, Any], tail: str = "", **model: Any) -> Promise:
    facts = {"tool_parser": "hermes", "reasoning_parser": "qwen3", **model}
    return promised(tiny_model(capabilities=frozenset(capabilities), **facts), tail, **asked)


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_promised_is_handed_over_or_refused(asked: str) -> None:
    request, field = ASKED[asked]
    for engine in ENGINES:
        found = ask(*engine, asked=request)
        assert found.constraint is not None
        assert (found.constraint.structural_tag is not None) == ("structural_tags" in engine)
        assert found[1:] == ("hermes", ())
    with pytest.raises(NotSupportedError, match=f"'{field}'".replace("[", r"\[")) as refused:
        ask(asked=request)
    assert refused.value.param == field


def test_what_promises_nothing_asks_nothing() -> None:
    for nothing in ({}, {"tools": [PLAIN]}, {"tools": [PLAIN], "parallel_tool_calls": True}, {"response_format": {}}):
        assert ask("constraints", asked=nothing) == ask(asked=nothing) == (None, "hermes", ())
    single = {"tools": [PLAIN], "parallel_tool_calls": False}
    assert ask("constraints", asked=single).constraint is not None
    assert ask(asked=single) == (None, "hermes", ()), "reading stops behind one"


def test_calls_come_in_the_familys_words_or_as_plain_json() -> None:
    forced = {"tools": [PLAIN], "tool_choice": "required"}
    own, plain = ask("constraints", asked=forced), ask("constraints", asked=forced, tool_parser=None)
    assert own.constraint is not None
    assert plain.constraint is not None
    assert plain.tool_parser == "json"
    assert "<tool_call>" in own.constraint.lark
    assert "<tool_call>" not in plain.constraint.lark
    strict = ask("constraints", asked={"tools": [STRICT]}, tool_parser=None)
    assert strict == (None, None, ("tools[0].function.strict",)), "calls need not be made"
    unwritten = ask("constraints", asked={"tools": [STRICT]}, tool_parser="kimi_vl")
    assert unwritten == (None, "kimi_vl", strict.left_out), "they are read all the same"
    assert ask("constraints", asked={"tools": [WRITTEN]}, tool_parser=None).left_out == ("grammar of write",)


def test_a_custom_tools_grammar_is_said_to_be_left_out_where_it_is() -> None:
    asked = {"tools": [WRITTEN]}
    assert ask("constraints", asked=asked).left_out == ()
    assert ask("structural_tags", asked=asked)[1:] == ("hermes", ("grammar of write",))
    assert ask("constraints", "structural_tags", asked=asked).left_out == ()
    assert ask(asked=asked) == (None, "hermes", ("grammar of write",))


def test_nobody_thinks_before_a_completion_and_a_prompt_may_have_begun_to() -> None:
    asked = {"response_format": ANSWER}
    larks = [
        ask("constraints", asked={**asked, "plain": plain}, tail=tail).constraint
        for plain, tail in [(False, ""), (False, "<think>\n"), (True, ""), (True, "<think>\n")]
    ]
    thinks, opened, *completions = [one.lark for one in larks if one is not None]
    opener = f"<[{tiny_tokenizer().token_to_id('<think>')}]>"
    assert ["think>" in lark for lark in (thinks, opened, *completions)] == [True, True, False, False]
    assert [opener in lark for lark in (thinks, opened, *completions)] == [True, False, False, False]


def test_schemas_are_as_deep_as_the_model_takes_them() -> None:
    asked = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"items": {"items": {}}}}}}
    assert ask("constraints", asked=asked).constraint is not None
    with pytest.raises(BadRequestError, match="response_format"):
        ask("constraints", asked=asked, limits=Limits(schema_depth=1))
