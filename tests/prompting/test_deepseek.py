"""DeepSeek V3.2 and V4 without a template: the rules, and the templates that others wrote for them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from portico.errors import BadRequestError
from portico.prompting import RenderRequest
from portico.prompting.renderers.deepseek import DeepSeekRenderer, Version, read_words
from support.shared import shared_path

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
U, A = "<｜User｜>", "<｜Assistant｜>"
WORDS = {
    "TOOLS_SYSTEM_TEMPLATE": "Tools by {dsml_token}, {thinking_start_token}:\n{tool_schemas}\n",
    "REASONING_EFFORT_PROMPTS": {"low": "", "high": "Think hard.\n", "max": "Think harder.\n"},
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"tool_schemas": "{dsml_token}"}}}]
CALLING = {
    "role": "assistant",
    "content": "Let me see.",
    "reasoning": "A tool.",
    "tool_calls": [
        {"id": "1", "function": {"name": "f", "arguments": '{"s": "a\\"b", "n": 3, "l": [1, "ü"]}'}},
        {"id": "2", "function": {"name": "g", "arguments": "not json"}},
    ],
}
CALLS = """

<｜DSML｜{word}>
<｜DSML｜invoke name="f">
<｜DSML｜parameter name="s" string="true">a"b</｜DSML｜parameter>
<｜DSML｜parameter name="n" string="false">3</｜DSML｜parameter>
<｜DSML｜parameter name="l" string="false">[1, "ü"]</｜DSML｜parameter>
</｜DSML｜invoke>
<｜DSML｜invoke name="g">
<｜DSML｜parameter name="arguments" string="true">not json</｜DSML｜parameter>
</｜DSML｜invoke>
</｜DSML｜{word}>"""
RESULTS = [
    {"role": "tool", "tool_call_id": "2", "content": "two"},
    {"role": "tool", "tool_call_id": "1", "content": "one"},
]
Q, R = {"role": "user", "content": "Q"}, {"role": "user", "content": "R"}
ANSWER = {"role": "assistant", "content": "Yes.", "reasoning": "Sure."}


def text(version: Version, messages: list[dict[str, Any]], **how: Any) -> str:
    rendered = DeepSeekRenderer(version, WORDS).render(RenderRequest(messages=messages, **how))
    assert rendered.begins_with_bos
    assert rendered.text.endswith(rendered.tail)
    return rendered.text


@pytest.mark.parametrize("version", ["v3.2", "v4"])
def test_turns(version: Version) -> None:
    assert text(version, [Q]) == f"{BOS}{U}Q{A}</think>"
    assert text(version, [Q], thinking=True) == f"{BOS}{U}Q{A}<think>"
    assert text(version, [Q], kwargs={"enable_thinking": True}) == f"{BOS}{U}Q{A}<think>"
    assert text(version, [Q], kwargs={"thinking": False}, thinking=True) == f"{BOS}{U}Q{A}</think>"
    assert text(version, [Q], reasoning_effort="none") == f"{BOS}{U}Q{A}</think>"
    assert text(version, [Q], add_generation_prompt=False) == f"{BOS}{U}Q"
    history = f"{BOS}S{U}Q{A}</think>Yes.{EOS}{U}R{A}<think>"
    assert text(version, [{"role": "system", "content": "S"}, Q, ANSWER, R], thinking=True) == history


@pytest.mark.parametrize("version", ["v3.2", "v4"])
def test_an_open_end(version: Version) -> None:
    assert text(version, [Q, ANSWER], continue_final_message=True) == f"{BOS}{U}Q{A}</think>Yes."
    open_answer = text(version, [Q, ANSWER], continue_final_message=True, thinking=True)
    assert open_answer == f"{BOS}{U}Q{A}<think>Sure.</think>Yes."
    thought = [Q, {"role": "assistant", "content": "", "reasoning": "Hm"}]
    assert text(version, thought, continue_final_message=True, thinking=True) == f"{BOS}{U}Q{A}<think>Hm"
    with pytest.raises(BadRequestError, match="Only an assistant message"):
        text(version, [Q], continue_final_message=True)


def test_calls_and_results_in_v32() -> None:
    written = text("v3.2", [Q, CALLING, *RESULTS], thinking=True)
    assert written == (
        f"{BOS}{U}Q{A}<think>A tool.</think>Let me see." + CALLS.format(word="function_calls") + EOS
        + "\n\n<function_results>\n<result>two</result>\n<result>one</result>\n</function_results>\n\n<think>"
    )  # fmt: skip
    after = text("v3.2", [Q, CALLING, *RESULTS, ANSWER, R], thinking=True)
    assert "A tool." not in after
    assert after.endswith(f"</function_results>\n\n</think>Yes.{EOS}{U}R{A}<think>")


def test_calls_and_results_in_v4() -> None:
    written = text("v4", [Q, CALLING, *RESULTS, R], thinking=True)
    # a result counts as a question, so the thought before it is dropped, and results follow the order of the calls
    assert written == (
        f"{BOS}{U}Q{A}</think>Let me see." + CALLS.format(word="tool_calls") + EOS
        + f"{U}<tool_result>one</tool_result>\n\n<tool_result>two</tool_result>\n\nR{A}<think>"
    )  # fmt: skip
    assert "<think>A tool.</think>" in text("v4", [Q, CALLING, *RESULTS], thinking=True, tools=TOOLS)
    assert "<think>A tool.</think>" in text(
        "v4", [Q, CALLING, *RESULTS], thinking=True, kwargs={"drop_thinking": False}
    )


def test_tools_are_introduced_in_the_models_words() -> None:
    introduction = 'Tools by ｜DSML｜, <think>:\n{"name": "f", "parameters": {"tool_schemas": "{dsml_token}"}}\n'
    system = {"role": "system", "content": "S"}
    assert text("v3.2", [system, Q], tools=TOOLS) == f"{BOS}S\n\n{introduction}{U}Q{A}</think>"
    assert text("v3.2", [Q], tools=TOOLS) == f"{BOS}\n\n{introduction}{U}Q{A}</think>"
    with pytest.raises(BadRequestError, match="encoding_") as refused:
        DeepSeekRenderer("v4").render(RenderRequest(messages=[Q], tools=TOOLS))
    assert refused.value.param == "tools"


@pytest.mark.parametrize(
    ("effort", "words"),
    [("low", ""), ("medium", "Think hard.\n"), ("xhigh", "Think harder.\n"), ("max", "Think harder.\n")],
)
def test_v4_opens_with_its_effort(effort: str, words: str) -> None:
    assert text("v4", [Q], reasoning_effort=effort) == f"{BOS}{words}{U}Q{A}<think>"


def test_v4_roles_of_its_own() -> None:
    reminder = {"role": "latest_reminder", "content": "now"}
    assert text("v4", [{"role": "developer", "content": "D"}, Q]) == f"{BOS}{U}D\n\nQ{A}</think>"
    assert text("v4", [reminder, Q]) == f"{BOS}<｜latest_reminder｜>now{U}Q{A}</think>"
    assert text("v4", [{**Q, "task": "title"}]) == f"{BOS}{U}Q<｜title｜>"
    assert text("v4", [{**Q, "task": "action"}]) == f"{BOS}{U}Q{A}</think><｜action｜>"
    with pytest.raises(BadRequestError, match="task must be one of"):
        text("v4", [{**Q, "task": "other"}])


def test_words_are_read_and_nothing_is_run(tmp_path: Path) -> None:
    (tmp_path / "encoding").mkdir()
    (tmp_path / "encoding" / "encoding_x.py").write_text(
        'import os\nos.abort()\nA: str = "a"\nB = ("b"\n "c")\nC = {"x": ""}\nD = os.environ\nE = F = 1\n',
        encoding="utf-8",
    )
    (tmp_path / "encoding_broken.py").write_text("def (", encoding="utf-8")
    assert read_words(tmp_path) == {"A": "a", "B": "bc", "C": {"x": ""}, "E": 1, "F": 1}
    assert read_words(tmp_path / "absent") == {}


# Templates that others wrote for these models differ from the models' own code in:
DIFFERENT = {
    "v3.2": "no thought is <think></think> at the end, where the model's own code writes </think>",
    "c05": "no blank lines before the tools where there is no system message",
    "c16": "the same",
    "c06": "the template cannot read arguments as text in the reference environment",
    "c07": "the template takes text only",
    "c08": "the template takes text only",
    "c09": "V3.2: the template leaves out developer messages",
}


@pytest.mark.parametrize(("version", "name"), [("v3.2", "DeepSeek-V3.2"), ("v4", "DeepSeek-V4-Flash-0731")])
def test_templates_that_others_wrote_agree(version: Version, name: str) -> None:
    with gzip.open(shared_path("corpus/golden_renderings.jsonl.gz"), "rt", encoding="utf-8") as lines:
        found = [row for row in map(json.loads, lines) if name in row["template"]]
    rows = {row["conversation_id"][:3]: row for row in found if "rendered" in row}
    declared = rows["c04"]
    schemas = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in declared["tools"])
    words = declared["rendered"].partition(declared["messages"][0]["content"] + "\n\n")[2].partition(U)[0]
    effort = rows["c10"]["rendered"].removeprefix(BOS).partition(U)[0]
    renderer = DeepSeekRenderer(
        version,
        {
            "TOOLS_TEMPLATE": words.replace(schemas, "{tool_schemas}"),
            "REASONING_EFFORT_PROMPTS": {"low": "", "high": effort, "max": ""},
        },
    )
    agreed = 0
    for conversation, row in rows.items():
        if conversation in DIFFERENT:
            continue
        kwargs = dict(row["kwargs"])
        request = RenderRequest(
            messages=row["messages"],
            tools=row["tools"],
            add_generation_prompt=kwargs.pop("add_generation_prompt", None),
            continue_final_message=kwargs.pop("continue_final_message", False),
            kwargs=kwargs,
        )
        expected = row["rendered"]
        if version == "v3.2" and expected.endswith("<think></think>"):
            expected = expected.removesuffix("<think></think>") + "</think>"
        assert renderer.render(request).text == expected, conversation
        agreed += 1
    assert agreed >= 8
