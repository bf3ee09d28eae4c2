"""What models write when they drift, and the call that it is: a text of each kind, whole and in single characters."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from portico.events import ToolCall
from portico.parsing.calls import Calls
from portico.parsing.either import Either
from portico.parsing.folding import fold
from portico.parsing.messages import Messages
from portico.parsing.recoveries import WHY
from portico.parsing.registry import program
from support.effort import some
from support.shared import ROOT
from support.streams import TOOL_PARSERS, run

SHELL = [{"name": "bash", "parameters": {"type": "object", "properties": {"command": {"type": "string"}}}}]
NOTE = {"text": "a"}

# the parser, the text, the arguments of its calls, the content
TEXTS: list[tuple[str, str, list[dict[str, Any]], str]] = [
    ("hermes", '<tool_call>{"name": "send_note", "arguments": {{"text": "a"}}}</tool_call>', [NOTE], ""),
    ("hermes", '<tool_call>{{"name": "send_note", "arguments": {"text": "a"}}}</tool_call>', [NOTE], ""),
    ("hermes", "<tool_call>{'name': 'send_note', 'arguments': {'text': 'a'}}</tool_call>", [NOTE], ""),
    ("hermes", '<tool_call>{"name": "send_note", "arguments": {text: "a"}}</tool_call>', [NOTE], ""),
    ("hermes", '<tool_call>{"name": "send_note", "arguments": {"text"="a"}}</tool_call>', [NOTE], ""),
    ("hermes", '<tool_call>{"name": "send_note", "arguments": {"text": \'a\'}}</tool_call>', [NOTE], ""),
    (
        "hermes",
        '<tool_call>{"name": "send_note", "arguments": {"text": "a" "priority": 3}}</tool_call>',
        [NOTE | {"priority": 3}],
        "",
    ),
    (
        "hermes",
        '<tool_call>{"name": "send_note", "arguments": {"priority": 3 "text": "a"}}</tool_call>',
        [NOTE | {"priority": 3}],
        "",
    ),
    ("hermes", '<function_call>{"name": "send_note", "arguments": {"text": "a"}}</function_call>', [NOTE], ""),
    (
        "hermes",
        '<tool_call>{"name": "no tool!", "arguments": {}}</tool_call>',
        [],
        '{"name": "no tool!", "arguments": {}}',
    ),
    (
        "mistral",
        '[TOOL_CALLS][{"name": "send_note", "arguments": {"text": "a"}}}}, {"name": "ping", "arguments": {}}}]',
        [NOTE, {}],
        "",
    ),
    ("openai", '<|channel|>commentary to=functions.send_note <|constrain|>json{"text": "a"}<|call|>', [NOTE], ""),
    ("openai", '<|channel|>commentary to=send_note json<|message|>{"text": "a"}<|call|>', [NOTE], ""),
    ("openai", '<|channel|>commentary to=functions.send_note<|message|><|message|>{"text": "a"}<|call|>', [NOTE], ""),
    ("openai", '<|channel|>commentary to=functions.send_note{"text": "<|message|>"}', [{"text": "<|message|>"}], ""),
    ("functionary_v32", 'send_note{"text": "a"}', [NOTE], ""),
    ("functionary_v32", '>>>send_note\n{"text": "a"}>>>x>>ping\n{}', [NOTE], ">>>x>>ping\n{}"),
    ("solar_open", '<|tool_call:begin|>ab<|tool_call:name|>send_note<|tool_call:args|>{"text": "a"}', [NOTE], ""),
    (
        "muse_glimmer",
        ' to=send_note<atem:function_calls>\n<atem:invoke name="send_note">\n'
        '<atem:parameter name="text">a</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|>',
        [NOTE],
        "",
    ),
    ("functiongemma", "<start_function_call>send_note{text:<escape>a<escape>}<end_function_call>", [NOTE], ""),
    ("gemma4", '<|tool_call>call:send_note{text:<|"|>a<|"|> priority:3}<tool_call|>', [NOTE | {"priority": 3}], ""),
    ("glm47", "<tool_call>send_note<arg_key>text<arg_value>a</arg_value></tool_call>", [NOTE], ""),
    ("glm47", "<tool_call>send_note<arg_key>text<arg_key><arg_value>a</arg_value></tool_call>", [NOTE], ""),
    ("glm47", "<tool_call>send_note<arg_key>text</arg_ky><arg_value>a</arg_value></tool_call>", [NOTE], ""),
    ("glm47", "<tool_call>send_note<arg_key>text</arg_key>a</arg_value></tool_call>", [NOTE], ""),
    (
        "glm47",
        "<tool_call>send_note<arg_key>text</arg_key><arg_value>a</arg_value>priority</arg_key><arg_value>3</arg_value>",
        [NOTE | {"priority": 3}],
        "",
    ),
    (
        "minimax_m2",
        '<invoke name="send_note">\n<parameter name="text">a</parameter>\n<b> name="priority">3</parameter>\n</invoke>',
        [NOTE | {"priority": 3}],
        "",
    ),
    (
        "qwen3_coder",
        "<function=send_note>\n<parameter=text>\na\n</parameter>\n<paramter=priority>\n3\n</parameter>\n</function>",
        [NOTE | {"priority": 3}],
        "",
    ),
    ("kimi_k2", '<|tool_call_begin|>functions.send_note:0{"text": "a"}<|tool_call_end|>', [NOTE], ""),
    ("deepseek_v31", '<｜tool▁call▁begin｜>send_note{"text": "a"}<｜tool▁call▁end｜>', [NOTE], ""),
    (
        "qwen3_coder",
        '<tool_call>\n<function name="send_note">\n<parameter name="text">a</parameter>\n</function>\n</tool_call>',
        [NOTE],
        "",
    ),
    ("minimax_m2", '<invoke>\n<invoke name="send_note">\n<parameter name="text">a</parameter>\n</invoke>', [NOTE], ""),
    ("cwm", '<tool: bash>\nsend_note {"text": "a"}</tool>', [NOTE], ""),
    ("glm47", "<tool_call>send_note<arg_key>texta</arg_value></tool_call>", [NOTE], ""),
    ("glm47", "<tool_call>send_note<arg_key>text</arg_key><|user|>a</arg_value></tool_call>", [NOTE], ""),
    (
        "solar_open2",
        "<|tool_call:start|>send_note\n<|tool_arg:start|>texta<|tool_arg:end|><|tool_call:end|>",
        [NOTE],
        "",
    ),
    (
        "k2_horizon",
        "<ifm|tool_calls><ifm|tool_call>send_note\n<ifm|arg_key>text</ifm|arg_key>\n</ifm|tool_calls>string"
        "</ifm|arg_type>\n<ifm|arg_value>a</ifm|arg_value></ifm|tool_call></ifm|tool_calls>",
        [NOTE],
        "",
    ),
    (
        "minicpm5",
        '<function name="send_note"><param name="text">a<|im_end|><param name="priority">3</param></function>',
        [NOTE | {"priority": 3}],
        "",
    ),
    (
        "deepseek_v32",
        '<｜DSML｜function_calls><｜DSML｜invoke name="send_note"></｜DSML｜tool_calls> name="text" string="true">a'
        "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>",
        [NOTE],
        "",
    ),
    (
        "qwen3_coder",
        "<tool_call>\n[x[<invokesend_note>\n<parameter=text>a</parameter></function></tool_call>",
        [NOTE],
        "",
    ),
    (
        "gigachat3",
        "<|message_sep|>\n\nfuncton call<|role_sep|><|message_sep|>\n\nfunction call<|role_sep|>\n"
        '{"name": "send_note", "arguments": {"text": "a"}}',
        [NOTE],
        "",
    ),
    (
        "hyperclovax_seed_think_14b",
        ' -> tool/function_call\n[{"name": "send_note", "arguments": {"text": "a"}}]-> tool/function_call',
        [NOTE],
        "",
    ),
    (
        "internlm",
        '<|action_start|><|plugin|>ok: {"name": "send_note", "parameters": {"text": "a"}}<|action_end|>',
        [NOTE],
        "ok:",
    ),
    ("mirothinker", '<tool_name>send_note</tool_name>\n<arguments>\n{"text": "a"}\n</arguments>', [NOTE], ""),
    # the opener is lost, and nothing was said before; or the closer is there
    ("mistral", ' [{"name": "send_note", "arguments": {"text": "a"}}]', [NOTE], ""),
    ("mistral", 'send_note[ARGS]{"text": "a"}', [NOTE], ""),
    ("hermes", '{"name": "send_note", "arguments": {"text": "a"}}\n</tool_call>\nDone.', [NOTE], "Done."),
    ("hermes", 'Well.\n{"name": "send_note", "arguments": {"text": "a"}}\n</tool_call>', [NOTE], "Well."),
    ("cohere_command3", '[{"tool_call_id": "0", "tool_name": "send_note", "parameters": {"text": "a"}}]', [NOTE], ""),
    ("apertus", '[{"send_note": {"text": "a"}}, {"ping": {}}]<|tools_suffix|>', [NOTE, {}], ""),
    ("inkling", '{"name": "send_note", "args": {"text": "a"}}<|end_message|>', [NOTE], ""),
    ("hyperclovax_seed_think_14b", '\n[{"name": "send_note", "arguments": {"text": "a"}}]<|im_end|>', [NOTE], ""),
    ("glm45", "send_note\n<arg_key>text</arg_key>\n<arg_value>a</arg_value>\n</tool_call>", [NOTE], ""),
    ("gemma4", 'call:send_note{text:<|"|>a<|"|>}<tool_call|>', [NOTE], ""),
    ("lfm2", '[send_note(text="a")]<|tool_call_end|>', [NOTE], ""),
    ("olmo3", 'send_note(text="a")\nping()\n</function_calls>', [NOTE, {}], ""),
    ("kimi_k2", 'functions.send_note:0<|tool_call_argument_begin|>{"text": "a"}<|tool_call_end|>', [NOTE], ""),
    ("solar_open", '<|tool_calls|>ab<|tool_call:name|>send_note<|tool_call:args|>{"text": "a"}<|calls|>', [NOTE], ""),
    ("rwkv", '**Tool Call:**\n```\n{"name": "send_note", "arguments": {"text": "a"}}\n```', [NOTE], ""),
    (
        "deepseek_v3",
        '<｜tool▁call▁begin｜>function<｜tool▁sep｜>send_note\n```\n{"text": "a"}\n```<｜tool▁call▁end｜>',
        [NOTE],
        "",
    ),
    (
        "qwen3_coder",
        "<function=send_note>\n<parameter=text>\na\n\n<parameter=priority>\n3\n\n</function>",
        [NOTE | {"priority": 3}],
        "",
    ),
    # a marker with a suffix is damaged, the next loses its slash, and the value holds another
    (
        "hy_v4",
        "<tool_calls><tool_call>send_note<arg_key>text</arg_key><arg_valu>a</tool_calls><arg_value>"
        "<arg_key>priority</arg_key><arg_value>3</arg_value></tool_call></tool_calls>",
        [{"text": "a</tool_calls>", "priority": 3}],
        "",
    ),
    (
        "pangu",
        ']<]minimax[>[<tool_call>[{"name": "send_note", "arguments": {"text": "a"}}][unused12]',
        [NOTE],
        "",
    ),
]

# What speaks of calls and makes none.
PROSE = [
    ("hermes", 'Example:\n{"name": "send_note", "arguments": {"text": "a"}}\nEnd.'),
    ("hermes", '```json\n{"name": "send_note", "arguments": {"text": "a"}}\n```'),
    ("rwkv", 'So:\n{"name": "send_note", "arguments": {"text": "a"}}\n```'),
    ("hermes", '{"name": "send_note", "age": 3}'),
    ("hermes", '{"name": "unheard_of", "arguments": {}}'),
    ("granite", '[{"name": "send_note"}]'),
    ("inkling", '<|content_text|>{"name": "send_note", "args": {"text": "a"}}<|end_message|>'),
    ("apertus", '[{"send_note": 3}]'),
    ("lfm2", '[send_note(text="a")] sends one.'),
    ("glm45", "send_note and <arg_key> tags"),
    ("mistral", 'send_note: {"text": "a"}'),
    ("kimi_k2", "functions.send_note:0 is its id"),
]


@pytest.mark.parametrize(("tool_parser", "text", "arguments", "content"), TEXTS)
def test_what_was_meant_is_read(tool_parser: str, text: str, arguments: list[dict[str, Any]], content: str) -> None:
    whole = run([text], tool_parser)
    assert run(list(text), tool_parser) == whole
    found = fold(whole)
    assert [json.loads(call.arguments) for call in found.tool_calls] == arguments
    assert found.content.removeprefix("<tool_call>").removesuffix("</tool_call>") == content


@pytest.mark.parametrize(("tool_parser", "text"), PROSE)
def test_prose_makes_no_call(tool_parser: str, text: str) -> None:
    whole = run([text], tool_parser)
    assert run(list(text), tool_parser) == whole
    found = fold(whole)
    assert found.tool_calls == []
    assert found.content == text.removeprefix("<|content_text|>").removesuffix("<|end_message|>")


def _object_of(tool_parser: str) -> Calls | None:
    """The family's shape whose calls are objects, which are looked for inside text as well."""
    calls = program(tool_parser, None).calls
    shapes = calls.shapes if isinstance(calls, Either) else (calls,)
    return next((shape for shape in shapes if isinstance(shape, Calls) and shape.objects), None)


UNMARKED = [name for name in TOOL_PARSERS if _object_of(name)]


@pytest.mark.parametrize("tool_parser", UNMARKED)
def test_behind_text_an_object_is_a_call_only_where_its_closer_stands(tool_parser: str) -> None:
    """Cut anywhere, whole, and longer than is looked over: without a closer it is text, however it ends."""
    shape = _object_of(tool_parser)
    assert shape is not None
    text = "So:\n" + shape.body.write(ToolCall("", "send_note", '{"text": "a } b", "to": ["c"]}'), 0, None)
    for end in some(range(5, len(text) + 1), 12, TOOL_PARSERS.index(tool_parser)):
        for finish in ("stop", "length"):
            found = fold(run([text[:end]], tool_parser, finish=finish))
            assert (found.content, found.tool_calls) == (text[:end], []), finish
    if shape.own_closers and not isinstance(program(tool_parser, None).reasoning, Messages):
        assert [call.name for call in fold(run([text, shape.own_closers[0]], tool_parser)).tool_calls] == ["send_note"]
        long = "So:\n" + shape.body.write(ToolCall("", "send_note", json.dumps({"text": "a " * 2048})), 0, None)
        assert fold(run([long, shape.own_closers[0]], tool_parser)).tool_calls == []


def test_every_kind_has_its_reason() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/portico/parsing").rglob("*.py"))
    assert set(re.findall(r"""(?:recovered|_note)\(\s*"([^"]+)\"""", code)) == set(WHY)


def test_bare_text_goes_under_the_only_parameter() -> None:
    found = fold(run(["<tool: sh>\nbash ls -la</tool>"], "cwm", tools=SHELL))
    assert [call.arguments for call in found.tool_calls] == ['{"command": "ls -la"}']
