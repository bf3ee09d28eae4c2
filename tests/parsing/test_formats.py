# ruff: noqa: E501  (answers are written as they come)
"""What is peculiar to each family: layouts, lenience, malformed output. Each answer is also read character by character.

Tools: ``go(to: string, times: integer)`` and ``stop()``. A row is the parsers, the text, and what must come out.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from portico.parsing import OutputParser, parse
from portico.parsing.folding import fold
from support.streams import run

TOOLS = [
    {
        "name": "go",
        "parameters": {"type": "object", "properties": {"to": {"type": "string"}, "times": {"type": "integer"}}},
    },
    {"name": "stop", "parameters": {"type": "object", "properties": {}}},
]
GO = ("go", {"to": "Rom"})
STOP = ("stop", {})

ROWS: list[tuple[str, str | None, str, dict[str, Any]]] = [
    # JSON objects
    ("hermes", None, '<tool_call>{"arguments": {"to": "Rom"}, "name": "go"}</tool_call>', {"calls": [GO]}),
    ("hermes", None, '<tool_call>{"name": "go", "arguments": "{\\"to\\": \\"Rom\\"}"}</tool_call>', {"calls": [GO]}),
    ("hermes", None, '<tool_call>{"name": "stop", "arguments": null}</tool_call>', {"calls": [STOP]}),
    ("hermes", None, '<tool_call>{"name": "stop"}</tool_call> Done.', {"calls": [STOP], "content": "Done."}),
    ("hermes", None, '<tool_call>{"type": "function", "function": {"name": "stop", "arguments": {}}}</tool_call>', {"calls": [STOP]}),
    ("hermes", None, '<tool_call>\n{"name": "go", "arguments": {"to": "Rom"}}', {"calls": [GO]}),
    ("hermes", None, "Write <tool_call> and then JSON.", {"content": "Write <tool_call> and then JSON."}),
    ("hermes", None, '<tool_call>{"verb": "go"}</tool_call>', {"content": '<tool_call>{"verb": "go"}</tool_call>'}),
    ("hermes", None, '<tool_call>{"name": "go", "arguments": {"to": "a</tool_call>b"}}</tool_call>', {"calls": [("go", {"to": "a</tool_call>b"})]}),
    ("hermes", None, '<tool_call>{"name": "go", "arguments": {"to" "Rom"}}</tool_call>', {"calls": [GO]}),
    ("hermes", None, '<tool_call>{"name": "go", "arguments": {"to": "Rom"</tool_call>', {"calls": [GO]}),
    ("hermes", "qwen3", "<think>\na\n</think>\n\n<think>\nb</think>c", {"reasoning": "a\n\nb", "content": "c"}),
    ("hermes", "qwen3", "</think>\n\nYes.", {"content": "Yes."}),
    ("granite-20b-fc", None, 'Ok <function_call> {"name": "stop", "arguments": {}}', {"calls": [STOP], "content": "Ok"}),
    ("gigachat3", None, '<|function_call|>{"name": "go", "arguments": {"to": "Rom"}}</s>', {"calls": [GO]}),
    ("gigachat3", None, '<|function_call|>{"name": "go", "arguments": {"to": "a\nb"}}', {"calls": [("go", {"to": "a\nb"})]}),
    ("llama3_json", None, '<|python_tag|>{"name": "go", "parameters": {"to": "Rom"}}<|eom_id|>', {"calls": [GO]}),
    ("llama3_json", None, '{"name": "stop", "parameters": {}}; {"name": "go", "parameters": {"to": "Rom"}}', {"calls": [STOP, GO]}),
    ("llama3_json", None, '{"name": "Rom", "people": 3}', {"content": '{"name": "Rom", "people": 3}'}),
    ("llama3_json", None, 'Like so: {"name": "fly", "parameters": {}}', {"content": 'Like so: {"name": "fly", "parameters": {}}'}),
    # JSON lists
    ("granite", "granite", "Here's my thought process: so Here's my response: Yes.", {"reasoning": "so", "content": "Yes."}),
    ("granite", None, '<tool_call>[{"name": "stop", "arguments": {}}]', {"calls": [STOP]}),
    ("jamba", None, '<tool_calls>[\n {"name": "stop", "arguments": {}},\n {"name": "go", "arguments": {"to": "Rom"}}\n]</tool_calls>', {"calls": [STOP, GO]}),
    ("hunyuan_a13b", "hunyuan_a13b", '<think>\n<tool_calls>[{"name": "stop", "arguments": {}}]</tool_calls>\n</think>\n<answer>\nNo.\n</answer>', {"reasoning": '<tool_calls>[{"name": "stop", "arguments": {}}]</tool_calls>', "content": "No."}),
    ("phi4_mini_json", None, 'functools[{"name": "go", "arguments": {"to": "]", "times": 1}}]', {"calls": [("go", {"to": "]", "times": 1})]}),
    ("mistral", None, '[TOOL_CALLS] [{"name": "go", "arguments": {"to": "Rom"}, "id": "abcDEF123"}]', {"calls": [GO], "ids": ["abcDEF123"]}),
    ("mistral", None, '[TOOL_CALLS]go[CALL_ID]abcDEF123[ARGS]{"to": "Rom"}[TOOL_CALLS]stop{}', {"calls": [GO, STOP], "ids": ["abcDEF123", "id-1"]}),
    ("apertus", "apertus", '<|inner_prefix|>so<|inner_suffix|><|tools_prefix|>[{"go": {"to": "Rom"}}]', {"reasoning": "so", "calls": [GO]}),
    ("cohere_command3", "cohere_command3", '<|START_ACTION|>[{"tool_call_id": "4", "tool_name": "stop", "parameters": {}}]<|END_ACTION|>', {"calls": [STOP], "ids": ["4"]}),
    ("cohere_command4", "cohere_command4", "<|START_TEXT|>Yes.<|END_TEXT|>", {"content": "Yes."}),
    ("xlam", None, 'So:\n```json\n[{"name": "go", "arguments": {"to": "Rom"}}]\n```', {"calls": [GO], "content": "So:"}),
    ("xlam", None, '```python\nx = [1]\n```', {"content": "```python\nx = [1]\n```"}),
    ("sarashina", None, "<|tool_calls|>[{'name': 'go', 'arguments': {'to': \"O'Hare\", 'times': 1}}]", {"calls": [("go", {"to": "O'Hare", "times": 1})]}),
    # names in front
    ("kimi_k2", "kimi_k2", 'so<|tool_calls_section_begin|> <|tool_call_begin|> functions.go:7 <|tool_call_argument_begin|> {"to": "Rom"} <|tool_call_end|> <|tool_calls_section_end|>', {"content": "so", "calls": [GO], "ids": ["functions.go:7"]}),
    ("kimi_k2", None, "<|tool_call_section_begin|><|tool_call_begin|>a.b:c:0<|tool_call_argument_begin|>{}<|tool_call_end|>", {"calls": [("a.b:c", {})]}),
    ("deepseek_v3", None, '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>go\n```json\n{\n "to": "```"\n}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>', {"calls": [("go", {"to": "```"})]}),
    ("functionary_v31", None, '<function=go>{"to": "</function>"}</function>', {"calls": [("go", {"to": "</function>"})]}),
    ("functionary_v32", None, 'all\nMoment.>>>go\n{"to": "Rom"}', {"content": "Moment.", "calls": [GO]}),
    # tagged parameters
    ("qwen3_coder", None, "<function=go>\n<parameter=to>\nRom\n</parameter>\n</function>", {"calls": [GO]}),
    ("qwen3_coder", None, "<tool_call>\n<function=go>\n<parameter=to>\nRom\n<parameter=times>\n2\n</function>\n</tool_call>", {"calls": [("go", {"to": "Rom", "times": 2})]}),
    ("qwen3_coder", None, "<tool_call>\n<function=go>\n<parameter=to>\na </parameter> b\n</parameter>\n</function>\n</tool_call>", {"calls": [("go", {"to": "a </parameter> b"})]}),
    ("qwen3_coder", None, "<tool_call>\n<function=stop>\n</function>\n<function=go>\n<parameter=to>\nRom\n</parameter>\n</function>\n</tool_call>", {"calls": [STOP, GO]}),
    ("qwen3_coder", None, "<tool_call>\n<function=go>\n<parameter=times>\nmany\n</parameter>\n</function>\n</tool_call>", {"calls": [("go", {"times": "many"})]}),
    ("qwen3_coder", None, "<tool_call>\n<function=go>\n<parameter=to>\n\n x\n\n</parameter>\n</function>", {"calls": [("go", {"to": "\n x\n"})]}),
    ("mimo", None, "<tool_call>\n<function=go>\n<parameter=to>\nx\n</parameter>\n</function>\n</tool_call>", {"calls": [("go", {"to": "\nx\n"})]}),
    ("seed_oss", None, "<seed:tool_call>\n<function=go>\n<parameter=to>\nRom\n</parameter>\n</function>\n</seed:tool_call>", {"calls": [GO]}),
    ("glm45", "glm45", "<think></think>\n<tool_call>go<arg_key> to </arg_key><arg_value>Rom</arg_value></tool_call>", {"calls": [GO]}),
    ("glm47", None, "<tool_call>stop</tool_call>", {"calls": [STOP]}),
    ("glm47", None, "A <tool_call> is a tag.", {"content": "A <tool_call> is a tag."}),
    ("hy_v3", None, "<tool_call:ab12>go<tool_sep:ab12>\n<arg_key:ab12>to</arg_key:ab12>\n<arg_value:ab12>Rom</arg_value:ab12>\n</tool_call:ab12>", {"calls": [GO]}),
    ("hy_v4", "hy_v4", "<think:1f>so</think:1f>Yes.", {"reasoning": "so", "content": "Yes."}),
    ("minimax_m2", None, "<minimax:tool_call>\n<invoke name='go'>\n<parameter name=to>Rom</parameter>\n</invoke>\n</minimax:tool_call>", {"calls": [GO]}),
    ("minimax_m2", "minimax_m2_append_think", "so</think>Yes.", {"content": "so</think>Yes."}),
    ("minimax_m3", None, "]<]minimax[>[<tool_call>]<]minimax[>[<invoke name=\"f\">]<]minimax[>[<l>]<]minimax[>[<item>1]<]minimax[>[</item>]<]minimax[>[<item>b]<]minimax[>[</item>]<]minimax[>[</l>]<]minimax[>[</invoke>]<]minimax[>[</tool_call>", {"calls": [("f", {"l": [1, "b"]})]}),
    ("deepseek_v32", None, '<｜DSML｜function_calls>\n<｜DSML｜invoke name="go">\n<｜DSML｜parameter name="to" string="true">07</｜DSML｜parameter>\n<｜DSML｜parameter name="times">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>', {"calls": [("go", {"to": "07", "times": 2})]}),
    ("deepseek_v4", None, '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="go">\n<｜DSML｜parameter name="input" string="false">{"to": "Rom"}</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>', {"calls": [GO]}),
    ("step3", None, '<｜tool_calls_begin｜>\n<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="go"><steptml:parameter name="to">a < b</steptml:parameter></steptml:invoke><｜tool_call_end｜>\n<｜tool_calls_end｜>', {"calls": [("go", {"to": "a < b"})]}),
    ("dots", None, '<dots_function_call>\n{"name": "stop", "arguments": {}}\n</dots_function_call>', {"calls": [STOP]}),
    ("minicpm5", None, '<functionname="go"><paramĠname="to"><![CDATA[<p>]]></param></function>', {"calls": [("go", {"to": "<p>"})]}),
    ("minicpm5", None, "The <function> tag.", {"content": "The <function> tag."}),
    ("k2_horizon", "k2_horizon", '<ifm|think_fast>so</ifm|think_fast><ifm|tool_calls>\n<ifm|tool_call>{"name": "stop", "arguments": {}}</ifm|tool_call>\n</ifm|tool_calls>', {"reasoning": "so", "calls": [STOP]}),
    ("kimi_k3", "kimi_k3", '<|open|>response<|sep|>Yes.<|close|>response<|sep|><|open|>tools<|sep|><|open|>call tool="go" index="1"<|sep|><|open|>argument key="a&amp;b" type="string"<|sep|>1 &amp; 2<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>', {"content": "Yes.", "calls": [("go", {"a&b": "1 &amp; 2"})]}),
    # own literals
    ("gemma4", "gemma4", '<|channel>thought\n<channel|><|tool_call>call:go{to:<|"|>a "b" \\ {c}<|"|>,times:2}<tool_call|>', {"calls": [("go", {"to": 'a "b" \\ {c}', "times": 2})]}),
    ("gemma4", None, '<|tool_call>:go(to:<|"|>Rom<|"|>)<turn|>', {"calls": [GO]}),
    ("functiongemma", None, "<start_function_call>call:go{times:<escape>2<escape>,ok:true,l:[1,x]}<end_function_call>", {"calls": [("go", {"times": 2, "ok": True, "l": [1, "x"]})]}),
    ("pythonic", None, "[go(to='it\\'s', times=-1), stop()]", {"calls": [("go", {"to": "it's", "times": -1}), STOP]}),
    ("pythonic", None, "[Rom, Paris(old)]", {"content": "[Rom, Paris(old)]"}),
    ("pythonic", None, "[go('Rom')]", {"content": "[go('Rom')]"}),
    ("granite_pythonic", None, 'Well.\ngo(to="Rom")\nstop()', {"calls": [GO, STOP], "content": "Well."}),
    ("granite_pythonic", None, "go(to='Rom')<|end_of_text|>", {"calls": [GO]}),
    ("granite_pythonic", None, 'I would go(to="Rom").', {"content": 'I would go(to="Rom").'}),
    ("granite_pythonic", None, 'go(to="Rom") goes to Rome.', {"content": 'go(to="Rom") goes to Rome.'}),
    ("granite_pythonic", None, 'forgo(to="Rom")', {"content": 'forgo(to="Rom")'}),
    ("granite_pythonic", None, 'unheard_of(to="Rom")', {"content": 'unheard_of(to="Rom")'}),
    ("llama4_pythonic", None, '[go(to="""a\n"b" """)]', {"calls": [("go", {"to": 'a\n"b" '})]}),
    ("olmo3", None, "<function_calls>\ngo(to='a' 'b')\nstop()\n</function_calls>", {"calls": [("go", {"to": "ab"}), STOP]}),
    ("lfm2", None, '<|tool_call_start|>[go(from="x")]<|tool_call_end|>Going.', {"calls": [("go", {"from": "x"})], "content": "Going."}),
    ("lfm2", None, '<|tool_call_start|>[{"name": "stop", "arguments": {}}]<|tool_call_end|>', {"calls": [STOP]}),
    # messages
    ("openai", "openai_gptoss", '<|channel|>analysis<|message|>so<|end|><|start|>assistant to=functions.go<|channel|>commentary<|message|>{"to": "Rom"}<|call|>', {"reasoning": "so", "calls": [GO]}),
    ("openai", "openai_gptoss", "<|channel|>analysis to=python<|message|>1+1<|call|>", {"reasoning": "1+1"}),
    ("openai", "openai_gptoss", "<|channel|>commentary<|message|>First,<|end|><|start|>assistant<|channel|>final<|message|> yes.<|return|>", {"content": "First, yes."}),
    ("openai", "openai_gptoss", "No header at all.", {"content": "No header at all."}),
    ("inkling", "inkling", 'go<|content_invoke_tool_json|>{"name": "go", "args": {"to": "Rom"}}<|end_message|><|message_model|><|content_text|>Yes.<|end_message|><|content_model_end_sampling|>', {"calls": [GO], "content": "Yes."}),
    ("muse_glimmer", "muse_glimmer", ' to=self<|message|>as <atem:invoke name="go">?<|eom|><|start|>assistant to=go.go<|message|><atem:function_calls>\n<atem:invoke name="go.go">\n<atem:parameter name="to">Rom</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|>', {"reasoning": 'as <atem:invoke name="go">?', "calls": [GO]}),
    ("ernie45", "ernie45", "<think>\nso\n</think>\n\n\n<response>\nYes.\n</response>\n", {"reasoning": "so", "content": "Yes."}),
    ("apriel15", "apriel15", "Here are my reasoning steps:\nso\n[BEGIN FINAL RESPONSE]\nYes.\n[END FINAL RESPONSE]\n<|end|>", {"reasoning": "so", "content": "Yes."}),
    ("kimi_vl", None, "◁think▷so◁/think▷Yes.", {"reasoning": "so", "content": "Yes."}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("tools", "thinks", "text", "expected"), ROWS, ids=[f"{row[0]}-{i}" for i, row in enumerate(ROWS)]
)
def test_row(tools: str, thinks: str | None, text: str, expected: dict[str, Any]) -> None:
    events = run([text], tools, thinks, tools=TOOLS)
    assert run(list(text), tools, thinks, tools=TOOLS) == events
    found = fold(events)
    assert (found.reasoning, found.content) == (expected.get("reasoning", ""), expected.get("content", ""))
    assert [(call.name, json.loads(call.arguments)) for call in found.tool_calls] == expected.get("calls", [])
    if "ids" in expected:
        assert [call.id for call in found.tool_calls] == expected["ids"]


def test_what_is_no_call_and_what_is_no_argument_are_counted() -> None:
    parser = OutputParser("hermes", tools=TOOLS)
    parser.feed(
        '<tool_call>{"name": "go", "arguments": {"to": "Rom", [1]}}</tool_call> <tool_call>{"no": 1}</tool_call>'
    )
    parser.close()
    assert dict(parser.outcomes) == {"call": 1, "false_alarm": 1, "undecodable": 1, "truncated": 0}


def test_generated_ids() -> None:
    one = parse("[TOOL_CALLS]stop{}[TOOL_CALLS]stop{}", "mistral", tools=TOOLS).tool_calls
    assert all(len(call.id) == 9 and call.id.isalnum() for call in one)
    assert one[0].id != one[1].id
    assert parse('<tool_call>{"name": "stop"}</tool_call>', "hermes", tools=TOOLS).tool_calls[0].id.startswith("call_")


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown reasoning parser 'x'; known: apertus"):
        OutputParser(None, "x")


def test_recoveries_are_told() -> None:
    parser = OutputParser("hermes", tools=TOOLS)
    parser.feed('<tool_call><tool_call>{"name": "go", "args": {"to": "Rom"}}</tool_call>')
    parser.close()
    assert [kind for kind, _ in parser.recoveries] == ["a marker twice", "arguments under another name"]
