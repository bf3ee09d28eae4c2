"""Harmony: our writer against what the reference renderer (openai-harmony 0.0.8) made of the same conversations."""

from __future__ import annotations

import datetime
import gzip
import json
from typing import Any

import pytest

from portico.errors import BadRequestError
from portico.prompting import RenderRequest
from portico.prompting.renderers.harmony import HarmonyRenderer
from portico.prompting.renderers.typescript import function_type
from support.shared import shared_path

RENDERER = HarmonyRenderer(clock=lambda: datetime.datetime(2026, 1, 2, 3, 4, 5))
SYSTEM = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n"
    "Current date: 2026-01-02\n\nReasoning: {effort}\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message.{functions}<|end|>"
)
TOOL = {"type": "function", "function": {"name": "now", "description": "Tells\nthe time.", "strict": True}}
CALLING = {
    "role": "assistant",
    "content": "I will look.",
    "reasoning": "Need the time.",
    "tool_calls": [
        {"id": "1", "function": {"name": "now", "arguments": '{"zone":"CET"}'}},
        {"id": "2", "function": {"name": "then", "arguments": {"day": "ü"}}},
    ],
}
RESULTS = [{"role": "tool", "tool_call_id": "2", "content": "b"}, {"role": "tool", "tool_call_id": "1", "content": "a"}]


def text(messages: list[dict[str, Any]], **how: Any) -> str:
    return RENDERER.render(RenderRequest(messages=messages, **how)).text


def system(effort: str = "medium", functions: bool = False) -> str:
    words = "\nCalls to these tools must go to the commentary channel: 'functions'." if functions else ""
    return SYSTEM.format(effort=effort, functions=words)


def test_a_question() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert text(messages) == system() + "<|start|>user<|message|>Hi<|end|><|start|>assistant"
    assert text(messages, add_generation_prompt=False) == system() + "<|start|>user<|message|>Hi<|end|>"
    assert RENDERER.render(RenderRequest(messages=messages)).tail == "<|start|>assistant"


def test_instructions_and_tools_are_one_developer_message() -> None:
    messages = [
        {"role": "system", "content": "Be nice."},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    developer = (
        "<|start|>developer<|message|># Instructions\n\nBe nice.\n\nBe brief.\n\n# Tools\n\n## functions\n\n"
        "namespace functions {\n\n// Tells\n// the time.\ntype now = () => any;\n\n} // namespace functions<|end|>"
    )
    expected = system(functions=True) + developer + "<|start|>user<|message|>Hi<|end|><|start|>assistant"
    assert text(messages, tools=[TOOL]) == expected


def test_thoughts_preambles_calls_and_results() -> None:
    question = {"role": "user", "content": "When?"}
    written = text([question, CALLING, *RESULTS])
    assert written == system() + (
        "<|start|>user<|message|>When?<|end|>"
        "<|start|>assistant<|channel|>analysis<|message|>Need the time.<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>I will look.<|end|>"
        '<|start|>assistant to=functions.now<|channel|>commentary json<|message|>{"zone":"CET"}<|call|>'
        '<|start|>assistant to=functions.then<|channel|>commentary json<|message|>{"day": "ü"}<|call|>'
        "<|start|>functions.then to=assistant<|channel|>commentary<|message|>b<|end|>"
        "<|start|>functions.now to=assistant<|channel|>commentary<|message|>a<|end|>"
        "<|start|>assistant"
    )


def test_thoughts_before_the_last_answer_are_dropped() -> None:
    question = {"role": "user", "content": "When?"}
    answer = {"role": "assistant", "content": "Now.", "reasoning": "Easy."}
    written = text([question, CALLING, *RESULTS, answer, question, CALLING, *RESULTS])
    assert written.count("Need the time.") == 1
    assert "Easy." not in written
    assert written.index("Need the time.") > written.index("Now.")


@pytest.mark.parametrize(
    ("message", "end"),
    [
        ({"content": "It is "}, "<|start|>assistant<|channel|>final<|message|>It is "),
        ({"content": "", "reasoning": "Well"}, "<|start|>assistant<|channel|>analysis<|message|>Well"),
        (
            {"content": "It", "reasoning": "Well"},
            "<|start|>assistant<|channel|>analysis<|message|>Well<|end|>"
            "<|start|>assistant<|channel|>final<|message|>It",
        ),
    ],
)
def test_an_open_end(message: dict[str, Any], end: str) -> None:
    messages = [{"role": "user", "content": "When?"}, {"role": "assistant", **message}]
    rendered = RENDERER.render(RenderRequest(messages=messages, continue_final_message=True))
    assert rendered.text == system() + "<|start|>user<|message|>When?<|end|>" + end
    assert rendered.text.endswith(rendered.tail)
    assert rendered.tail.startswith("<|start|>assistant<|channel|>")


@pytest.mark.parametrize(
    ("effort", "written"), [(None, "medium"), ("none", "low"), ("minimal", "low"), ("high", "high"), ("max", "high")]
)
def test_efforts(effort: str | None, written: str) -> None:
    assert text([{"role": "user", "content": "x"}], reasoning_effort=effort).startswith(system(written))


def test_what_the_operator_and_the_request_may_say() -> None:
    renderer = HarmonyRenderer(defaults={"model_identity": "You are Ada.", "current_date": "2030-01-01"})
    request = RenderRequest(messages=[{"role": "user", "content": "x"}], kwargs={"knowledge_cutoff": "2025-01", "x": 1})
    rendered = renderer.render(request)
    assert "You are Ada.\nKnowledge cutoff: 2025-01\nCurrent date: 2030-01-01\n" in rendered.text
    assert rendered.passed_over == ["x"]
    with pytest.raises(BadRequestError):
        renderer.render(RenderRequest(messages=[{"role": "user", "content": "x"}], kwargs={"tools": []}))


def test_what_cannot_be_written() -> None:
    with pytest.raises(BadRequestError, match="answers no call"):
        text([{"role": "tool", "content": "4"}])
    with pytest.raises(BadRequestError, match="Only an assistant message"):
        text([{"role": "user", "content": "4"}], continue_final_message=True)


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "City\nname"},
        "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
        "days": {"type": ["integer", "null"], "minimum": 1},
        "tags": {"type": "array", "items": {"type": "string"}},
        "where": {
            "type": "object",
            "properties": {"a": {"type": "string", "description": "inner"}, "b": {"type": "number"}},
            "required": ["a"],
        },
        "any": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "one": {
            "oneOf": [{"type": "string", "description": "a str"}, {"type": "boolean", "default": False}],
            "description": "one of",
            "default": True,
        },
        "free": {},
        "titled": {"type": "string", "title": "T", "examples": ["a", 1, "b"]},
        "maybe": {"type": "string", "nullable": True, "default": "x"},
        "rows": {"type": "array", "items": {"type": "object", "properties": {"z": {"type": "boolean"}}}},
        "either": {"type": "array", "items": {"oneOf": [{"type": "number", "description": "n"}, {"type": "string"}]}},
    },
    "required": ["city"],
}
TYPESCRIPT = """type f = (_: {
// City
name
city: string,
unit?: "c" | "f", // default: c
days?: number | null,
tags?: string[],
where?: {
    // inner
    a: string,
    b?: number,
    },
any?: any,
// one of
// default: true
one?:
 | string
 | boolean // default: false
,
free?: any,
// T
//
// Examples:
// - "a"
// - "b"
titled?: string,
maybe?: string | null, // default: "x"
rows?: {
    z?: boolean,
    }[],
either?: 
     | number // n
     | string[],
}) => any;
"""  # noqa: W291  (the reference leaves a blank before a list of variants)


def test_schemas_as_the_reference_writes_them() -> None:
    assert function_type({"name": "f", "parameters": SCHEMA}) == TYPESCRIPT


NO_SCHEMAS = [
    1,
    "x",
    [],
    {"type": 5},
    {"type": "object", "properties": []},
    {"oneOf": [1]},
    {"type": "object", "required": "x", "properties": {"a": 1}},
    {"type": "string", "enum": [1]},
]


@pytest.mark.parametrize("schema", NO_SCHEMAS)
def test_schemas_that_are_none(schema: Any) -> None:
    assert function_type({"name": "f", "parameters": schema}).startswith("type f = (")


def test_deep_schemas_end() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(500):
        schema = {"type": "object", "properties": {"a": schema}}
    assert "any" in function_type({"name": "f", "parameters": schema})


DIFFERENT = {
    "c04": "the template lays nested schemas out in a way of its own, and ends a default with a comma",
    "c05": "the same; and it makes a result a JSON string, where the reference writes it as it is",
    "c06": "the same; and it shows one call of several",
    "c14": "the template ends the last answer with <|return|>, as in training",
}


def test_the_models_own_template_agrees() -> None:
    """The template that comes with gpt-oss, on the conversations where it keeps to the reference."""
    agreed = 0
    with gzip.open(shared_path("corpus/golden_renderings.jsonl.gz"), "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            conversation = row["conversation_id"][:3]
            if row["template"] != "llamacpp__openai-gpt-oss-120b.jinja" or conversation in DIFFERENT:
                continue
            if "rendered" not in row:
                continue
            kwargs = dict(row["kwargs"])
            ends = {key: kwargs.pop(key, None) for key in ("add_generation_prompt", "continue_final_message")}
            # it leaves a blank line after instructions, which the reference does not
            head, developer, rest = row["rendered"].partition("<|start|>developer")
            expected = head + developer + rest.replace("\n\n<|end|>", "<|end|>", 1)
            assert text(row["messages"], tools=row["tools"], kwargs=kwargs, **ends) == expected, conversation
            agreed += 1
    assert agreed >= 8
