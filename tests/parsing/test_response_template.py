"""Checkpoints that describe their own output: the whole specification, and transformers' own reader beside ours.

The comparison runs where transformers (5.13 or later) is installed: ``pip install transformers``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from portico.grammar import Chain, Exactly, Frame, Until
from portico.parsing import OutputParser, Unwritable, answer_frame, calls_grammar, declare, parse, render_calls
from portico.parsing.folding import fold
from support.streams import cuts, run

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "go",
            "parameters": {"type": "object", "properties": {"to": {"type": "string"}, "times": {"type": "integer"}}},
        },
    },
    {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}},
]
CALL = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}
TEMPLATES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "json": (
        {
            "start_anchor": "<|turn>",
            "defaults": {"role": "assistant"},
            "fields": {
                "thinking": {"open": "<t>", "close": "</t>"},
                "content": {},
                "tool_calls": {
                    "open": "<call>",
                    "close": "</call>",
                    "repeats": True,
                    "content": "json",
                    "transform": {"type": "function", "function": "{content}"},
                },
            },
        },
        ['<t>so</t><call>{"name": "go", "arguments": {"to": "Rom", "times": 2}}</call>', "Only text.", "<t>on and on"],
    ),
    "pattern": (
        {
            "start_anchor_pattern": r"<turn:\w+>",
            "fields": {
                "thinking": {"open_pattern": r"<(?:think|t)>\s*", "close_pattern": r"\s*</(?:think|t)>"},
                "content": {
                    "open": ["<say>", "<say:loud>"],
                    "close_pattern": "</say>|<stop>",
                    "repeats": True,
                    "join": " ",
                },
                "tool_calls": {
                    "open_pattern": r"<call>\s*<fn=(?P<name>\w+)>",
                    "close": "</call>",
                    "repeats": True,
                    "content": "xml-inline",
                    "content_args": {
                        "tag_pattern": r"<arg=(?P<key>\w+)>\s*(?P<value>.*?)\s*</arg>",
                        "value_parser": {"name": "json", "args": {"allow_non_json": True}},
                    },
                    "transform": CALL,
                },
            },
        },
        [
            "<think>\nso\n</think><say>Yes.<stop><say:loud>No.</say>",
            "<t>so</t><call>\n<fn=go>\n<arg=to>\nRom\n</arg>\n<arg=times>\n2\n</arg>\n</fn>\n</call>",
        ],
    ),
    "lines": (
        {
            "start_anchor": "<|turn>",
            "fields": {
                "content": {"close": "<end>"},
                "tool_calls": {
                    "open_pattern": r"\[call (?P<name>\w+)\]",
                    "close": ["[done]", "[done!]"],
                    "repeats": True,
                    "content": "kv-lines",
                    "content_args": {"kv_sep": "=", "value_parser": {"name": "json", "args": {"allow_non_json": True}}},
                    "transform": CALL,
                },
            },
        },
        ["[call go]\nto = Rom\ntimes = 2\n\n[done]", "[call stop][done!]", "Well.<end>"],
    ),
    "each": (
        {
            "start_anchor": "<|turn>",
            "fields": {
                "tool_calls": {
                    "open": "<acts>",
                    "close": "</acts>",
                    "content": "json",
                    "content_args": {"unquoted_keys": True, "string_delims": [["<q>", "</q>"]]},
                    "transform_each": True,
                    "transform": {"type": "function", "function": {"name": "{tool}", "arguments": "{args}"}},
                }
            },
        },
        ['<acts>[{tool: <q>go</q>, args: {to: <q>a, "b"</q>}}, {tool: <q>stop</q>, args: {}}]</acts>', "dropped"],
    ),
    "list": (
        {
            "start_anchor": "<|turn>",
            "fields": {
                "content": {},
                "tool_calls": {
                    "open": "<do>",
                    "close": "</do>",
                    "content": "python-call-list",
                    "transform_each": True,
                    "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{arguments}"}},
                },
            },
        },
        [
            r"""Well.<do>[go(to='it\'s "Rom"', times=2), go(to="\u00d6\ud83e\udd8a"), stop()]</do>""",
            "<do>[go(to={'a': [1, -2.5e3, None, true]})]</do>",
        ],
    ),
}
ROWS = [(name, text) for name, (_, texts) in TEMPLATES.items() for text in texts]


def message(template: dict[str, Any], pieces: list[str], prompt: str = "") -> tuple[str, str, list[tuple[str, Any]]]:
    found = fold(run(pieces, "hf", "hf", tools=TOOLS, response_template=template, prompt_tail=prompt))
    return found.reasoning, found.content, [(call.name, json.loads(call.arguments)) for call in found.tool_calls]


@pytest.mark.parametrize(("name", "text"), ROWS)
def test_any_cut_gives_the_same_events(name: str, text: str) -> None:
    template = TEMPLATES[name][0]
    whole = run([text], "hf", "hf", tools=TOOLS, response_template=template)
    for pieces in cuts(text, seed=1, count=20):
        assert run(pieces, "hf", "hf", tools=TOOLS, response_template=template) == whole, pieces


ROME = ("go", {"to": "Rom", "times": 2})
WANTED: dict[str, list[tuple[str, str, list[tuple[str, Any]]]]] = {
    "json": [("so", "", [ROME]), ("", "Only text.", []), ("on and on", "", [])],
    "pattern": [("so", "Yes. No.", []), ("so", "", [ROME])],
    "lines": [("", "", [ROME]), ("", "", [("stop", {})]), ("", "Well.", [])],
    "each": [("", "", [("go", {"to": 'a, "b"'}), ("stop", {})]), ("", "", [])],
    "list": [
        ("", "Well.", [("go", {"to": 'it\'s "Rom"', "times": 2}), ("go", {"to": "Ö🦊"}), ("stop", {})]),
        ("", "", [("go", {"to": {"a": [1, -2500.0, None, True]}})]),
    ],
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_an_answer_amounts_to(name: str) -> None:
    template, texts = TEMPLATES[name]
    assert [message(template, [text]) for text in texts] == WANTED[name]


# How a region's content is coded, the content, and what the argument is then.
CODED: list[tuple[dict[str, Any], str, Any]] = [
    ({}, " a ", "a"),
    ({"content_args": {"strip": False}}, " a ", " a "),
    ({"content": "int"}, " 7\n", 7),
    ({"content": "float"}, "2.5", 2.5),
    ({"content": "bool"}, " TRUE", True),
    ({"content": "bool"}, "1", True),
    ({"content": "bool"}, "no", False),
    ({"content": "int"}, "seven", None),
    ({"content": "json"}, '{"a": [1]}', {"a": [1]}),
    ({"content": "json"}, "a", None),
    ({"content": "json", "content_args": {"allow_non_json": True}}, " a ", "a"),
    ({"content": "json", "content_args": {"unquoted_keys": True}}, '{a: {b : "c: d"}}', {"a": {"b": "c: d"}}),
    (
        {"content": "json", "content_args": {"string_delims": [["<q>", "</q>"], ["«", "»"]]}},
        '[<q>"</q>, «\n»]',
        ['"', "\n"],
    ),
    ({"content": "kv-lines"}, "a: 1\nb:2:3\nno", {"a": "1", "b": "2:3"}),
    ({"content": "kv-lines", "content_args": {"strip": False}}, "a : 1", {"a ": " 1"}),
    ({"content": "kv-lines", "content_args": {"line_sep": ";", "kv_sep": "="}}, "a=1;b=2", {"a": "1", "b": "2"}),
    (
        {"content": "kv-lines", "content_args": {"value_parser": {"name": "int"}}},
        "a: 1",
        {"a": 1},
    ),
    ({"content": "xml-inline"}, "<a>1</a>", None),
    (
        {"content": "xml-inline", "content_args": {"tag_pattern": r"<(?P<key>\w+)>(?P<value>[^<]*)</\w+>"}},
        "<a>1</a><a>2</a><b></b>",
        {"a": "2", "b": ""},
    ),
    (
        {
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": r"<(?P<key>\w+)>(?P<value>[^<]*)</\w+>",
                "merge_duplicates": True,
                "value_parser": {"name": "int", "args": {}},
            },
        },
        "<a>1</a><a>2</a><a>3</a><b>4</b>",
        {"a": [1, 2, 3], "b": 4},
    ),
]


@pytest.mark.parametrize(("coded", "text", "wanted"), CODED)
def test_how_a_region_is_coded(coded: dict[str, Any], text: str, wanted: Any) -> None:
    """As the argument of a call; what cannot be read (None here) stays text, whole."""
    region = {"open": "<c>", "close": "</c>", "transform": {"name": "put", "arguments": {"v": "{content}"}}, **coded}
    calls = [] if wanted is None else [("put", {"v": wanted})]
    for pieces in ([f"<c>{text}</c>"], list(f"<c>{text}</c>")):
        found = message({"fields": {"content": {}, "tool_calls": region}}, pieces)
        assert found == ("", "" if calls else f"<c>{text}</c>", calls)


@pytest.mark.parametrize(
    ("transform", "text", "wanted"),
    [
        ({"name": "{name}", "arguments": "{args.in}"}, '{"args": {"in": {"a": 1}}}', None),  # content is one place
        ({"name": "f", "arguments": "{content.args}"}, '{"args": {"a": 1}}', {"a": 1}),
        ({"name": "f", "arguments": "{content.args.in}"}, '{"args": {"in": {"a": 1}}}', {"a": 1}),
        ({"name": "f", "arguments": "{content.args.in}"}, '{"args": 3}', None),
        ({"name": "f", "arguments": "{content.absent}"}, "{}", None),
        ({"name": "f", "arguments": {"l": ["{content.a}", "b", 3]}}, '{"a": null}', {"l": [None, "b", 3]}),
        ({"function": {"name": "f", "arguments": "{content}"}, "id": "x"}, '"{\\"a\\": 1}"', {"a": 1}),
        ({"name": "f", "arguments": "{content}"}, "null", {}),
        ({"name": "f", "arguments": "{content}"}, "[1]", None),
        ({"name": 3, "arguments": {}}, "{}", None),
        ([{"name": "f", "arguments": "{content}"}], '{"a": 1}', {"a": 1}),
    ],
)
def test_what_places_are_filled_with(transform: Any, text: str, wanted: Any) -> None:
    region = {"open": "<c>", "close": "</c>", "content": "json", "transform": transform}
    found = message({"fields": {"content": {}, "tool_calls": region}}, [f"<c>{text}</c>"])
    assert found == ("", f"<c>{text}</c>" if wanted is None else "", [] if wanted is None else [("f", wanted)])


@pytest.mark.parametrize(("name", "text"), ROWS)
def test_transformers_reads_the_same(name: str, text: str) -> None:
    oracle = pytest.importorskip("transformers.utils.chat_parsing", reason="compares with transformers >= 5.13")
    template = TEMPLATES[name][0]
    wanted = oracle.parse_response(text, template, prefix="", tools=TOOLS)
    content = wanted.get("content") or ""
    calls = [(c["function"]["name"], c["function"]["arguments"]) for c in wanted.get("tool_calls") or []]
    for place in range(len(text) + 1):
        assert message(template, [text[:place], text[place:]]) == (wanted.get("thinking") or "", content, calls)


def test_the_prompt_may_open_a_region() -> None:
    template = TEMPLATES["json"][0]
    old = "<|turn>x<t>old</t>"
    assert message(template, ["so</t>Yes."], f"{old}<|turn><t>") == ("so", "Yes.", [])
    assert message(template, ["Yes."], f"{old}<|turn><t>so</t>") == ("", "Yes.", [])


def test_a_call_that_cannot_be_read_stays_text() -> None:
    text = 'Ok.<call>{"name": go}</call> Done.'
    for pieces in ([text], list(text)):
        assert message(TEMPLATES["json"][0], pieces) == ("", text, [])


@pytest.mark.parametrize(
    "text",
    [
        "[go('Rom')]",
        "[go(to='Rom',)]",
        "[go(to='Rom'), ]",
        "[go(to='Rom', to='Rom')]",
        "[go(to={'a': 1, 'a': 1})]",
        r"[go(to='\x41')]",
        "[go(to='a\nb')]",
        r"[go(to='\ud83e')]",
        "[go(times=9007199254740992)]",
        "[go(times=1e999)]",
        "[go(to=Rom)]",
        "[go(to=" + "[" * 101 + "]" * 101 + ")]",
        "[stop()",
        "stop()",
        "[stop()] x",
    ],
)
def test_a_list_of_calls_is_read_strictly(text: str) -> None:
    assert message(TEMPLATES["list"][0], [f"<do>{text}</do>"]) == ("", f"<do>{text}</do>", [])
    oracle = pytest.importorskip("transformers.utils.chat_parsing", reason="compares with transformers >= 5.13")
    with pytest.raises(ValueError, match="python-call-list"):
        oracle.parse_response(f"<do>{text}</do>", TEMPLATES["list"][0], prefix="")


@pytest.mark.parametrize(("name", "text"), [row for row in ROWS if row[1].startswith("<")])
def test_a_promised_call_never_leaks_its_framing(name: str, text: str) -> None:
    template = TEMPLATES[name][0]
    for end in range(1, len(text)):
        how = {"tools": TOOLS, "response_template": template, "tool_choice": "required", "finish": "length"}
        found = fold(run([text[:end]], "hf", "hf", **how))
        assert fold(run(list(text[:end]), "hf", "hf", **how)) == found
        assert "<" not in found.content + found.reasoning, text[:end]
        assert found.finish_reason == "length"


def test_typed_by_the_schema() -> None:
    text = "[call go]to = 7\ntimes = 2[done]"
    template = json.loads(json.dumps(TEMPLATES["lines"][0]))
    del template["fields"]["tool_calls"]["content_args"]["value_parser"]
    assert message(template, [text])[2] == [("go", {"to": "7", "times": 2})]


def test_grammar_and_writer_where_the_template_is_literal() -> None:
    name = declare(TEMPLATES["json"][0])
    calls = [{"name": "go", "arguments": {"to": "Rom"}}]
    text = render_calls(calls, name, TOOLS)
    assert text == '<call>{"name": "go", "arguments": {"to": "Rom"}}</call>'
    assert parse(text, name, name, tools=TOOLS).tool_calls[0].arguments == '{"to": "Rom"}'
    listed = declare(TEMPLATES["list"][0])
    text = render_calls([{"name": "go", "arguments": {"to": 'it\'s "Rom"\n', "times": -1}}, calls[0]], listed, TOOLS)
    assert text == """<do>[go(to="it's \\"Rom\\"\\n", times=-1), go(to="Rom")]</do>"""
    assert calls_grammar(declare(TEMPLATES["pattern"][0]), []) is None
    parser = OutputParser(name, name, tools=TOOLS)
    assert "<call>" in parser.special_tokens


NAMED = {
    "open_pattern": r"<f=(?P<name>\w+)>",
    "close": "</f>",
    "transform": {"name": "{name}", "arguments": "{content}"},
}
# How a template describes calls, and two of them as they are written; None where it takes more than a page could say.
DESCRIBED: list[tuple[dict[str, Any], str | None]] = [
    (
        {"open": "<c>", "close_pattern": "</c>", "content": "json"},
        '<c>{"name": "go", "arguments": {"to": "Rom"}}</c><c>{"name": "stop", "arguments": {}}</c>',
    ),
    (
        {"open": ["<c>", "<d>"], "close": ["</c>", "</d>"], "content": "json", "transform": "{content}"},
        '<c>{"name": "go", "arguments": {"to": "Rom"}}</c><c>{"name": "stop", "arguments": {}}</c>',
    ),
    (
        {"open": "<c>", "close": "</c>", "content": "json",
         "transform": {"name": "{content.tool}", "arguments": "{content.args}"}},
        '<c>{"tool": "go", "args": {"to": "Rom"}}</c><c>{"tool": "stop", "args": {}}</c>',
    ),
    (
        {"open": "<c>", "close": "</c>", "content": "json", "transform_each": True,
         "transform": {"function": {"name": "{tool}", "arguments": "{args}"}}},
        '<c>[{"tool": "go", "args": {"to": "Rom"}}, {"tool": "stop", "args": {}}]</c>',
    ),
    ({**NAMED, "content": "json"}, '<f=go>{"to": "Rom"}</f><f=stop>{}</f>'),
    (
        {**NAMED, "content": "json", "close": None, "close_pattern": r"\s*</f\.>"},
        '<f=go>{"to": "Rom"}</f.><f=stop>{}</f.>',
    ),
    (
        {**NAMED, "content": "json", "content_args": {"string_delims": [["<q>", "<q>"]], "unquoted_keys": True}},
        "<f=go>{to:<q>Rom<q>}</f><f=stop>{}</f>",
    ),
    (
        {**NAMED, "content": "xml-inline",
         "content_args": {"tag_pattern": r"<a=(?P<key>\w+)>\n(?P<value>.*?)</a>"}},
        "<f=go><a=to>\nRom</a></f><f=stop></f>",
    ),
    (
        {"open": "<do>", "close": "</do>", "content": "python-call-list", "transform_each": True,
         "transform": {"name": "{name}", "arguments": "{arguments}"}},
        '<do>[go(to="Rom"), stop()]</do>',
    ),
    ({"open": "<do>", "close": "</do>", "content": "python-call-list", "transform": "{content}"}, None),
    ({"open": "<c>", "close": "</c>"}, None),
    ({"open_pattern": "<c>+", "close": "</c>", "content": "json"}, None),
    ({"open": "<c>", "close_pattern": "</c>|</d>", "content": "json"}, None),
    ({"open": "<c>", "close": "</c>", "content": "json", "transform": {"name": "go", "arguments": "{content}"}}, None),
    ({**NAMED, "content": "kv-lines"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("region", "written"), DESCRIBED)
def test_calls_are_written_as_far_as_a_template_is_literal(region: dict[str, Any], written: str | None) -> None:
    name = declare({"fields": {"content": {"open": "<s>", "close": "</s>"}, "tool_calls": region}})
    calls = [{"name": "go", "arguments": {"to": "Rom"}}, {"name": "stop", "arguments": {}}]
    if written is None:
        with pytest.raises(Unwritable, match="no way to make calls"):
            render_calls(calls, name, TOOLS)
        assert calls_grammar(name, []) is None
        return
    assert render_calls(calls, name, TOOLS) == written
    assert [call.name for call in parse(written, name, tools=TOOLS).tool_calls] == ["go", "stop"]


@pytest.mark.parametrize(
    ("fields", "frame"),
    [
        ({"thinking": {"open": "<t>", "close": "</t>"}}, Frame(Chain((Exactly("<t>"), Until(("</t>",)), Exactly(""))))),
        (
            {"reasoning_content": {"open": ["<t>", "<u>"], "close_pattern": r"</t>\n"}, "content": {"open": "<s>"}},
            Frame(Chain((Exactly("<t>"), Until(("</t>",)), Exactly("\n")))),
        ),
        (
            {"thinking": {"open_pattern": r"<\|t\|>", "close": ["</t>", "</u>"]}, "content": {"open": ["<|s|>"]}},
            Frame(Chain((Exactly("<|t|>"), Until(("</t>",)), Exactly(""))), header=Exactly("<|s|>")),
        ),
        ({"thinking": {"open_pattern": "<t+>", "close": "</t>"}}, Frame()),
        ({"content": {"open": "<|s|>", "close": "<|e|>"}}, Frame()),
    ],
)
def test_what_stands_in_front_of_an_answer(fields: dict[str, Any], frame: Frame) -> None:
    assert answer_frame(None, declare({"fields": fields})) == frame


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ({"fields": {}}, "no 'fields'"),
        ({"version": 2, "fields": {"content": {}}}, "version 2"),
        ({"fields": {"content": {}}, "colour": 1}, "unknown keys"),
        ({"fields": {"content": {"content": "yaml"}}}, "'yaml' is not known"),
        ({"fields": {"content": {"open": "a", "open_pattern": "b"}}}, "exclude each other"),
        ({"fields": {"content": {"open_pattern": "("}}}, "no regular expression"),
        ({"fields": {"a": {}, "b": {}}}, "only one field"),
        ({"fields": {"a": {"open_pattern": "(?P<x>.)"}}}, "without a 'transform'"),
        ({"fields": {"a": {"open": "a", "transform": "x{content}"}}}, "mixes a placeholder"),
        ({"fields": {"a": {"open": "a", "join": "x"}}}, "'repeats': true"),
        ({"fields": {"a": {"open": "a", "join": 3, "repeats": True}}}, "'join' must be a string"),
        ([], "must be an object"),
        ({"fields": {"a": {}}, "defaults": []}, "'defaults' must be an object"),
        ({"fields": ["a"]}, "no 'fields'"),
        ({"fields": {"a": "b"}}, "'a' must be an object"),
        ({"fields": {"a": {"opens": "b"}}}, "'a': unknown keys"),
        ({"fields": {"a": {"transform_each": True}}}, "wants a 'transform'"),
        ({"fields": {"a": {"transform": {}, "transform_each": 1}}}, "true or false"),
        ({"fields": {"a": {"transform": {"b": ["x{content}"]}}}}, "mixes a placeholder"),
        *(
            ({"fields": {"a": {key: word}}}, f"'{key}' must be a string or a list of strings")
            for key in ("open", "close")
            for word in ("", [], [""], ["b", 3], 3, {"b": 1})
        ),
        *(({"fields": {"a": {f"{key}_pattern": 3}}}, f"'{key}_pattern' is no regular") for key in ("open", "close")),
        ({"fields": {"a": {}}, "start_anchor": []}, "'start_anchor' must be a string"),
    ],
)
def test_a_wrong_template_is_refused(template: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        declare(template)


def test_without_a_template_the_parser_is_refused() -> None:
    with pytest.raises(ValueError, match="response_template"):
        OutputParser("hf")
