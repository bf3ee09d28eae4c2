"""Custom tools in every family: what the client's grammar has is what the enforced one lets through, in any framing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llguidance import LLMatcher

from portico.constraints import call_policy
from portico.constraints.lark import to_lark
from portico.constraints.limits import Limits
from portico.constraints.trial import byte_vocabulary
from portico.errors import BadRequestError
from portico.parsing import calls_grammar, parse, render_calls
from portico.protocols.openai.custom import as_functions
from support.custom_tools import CASES, tool
from support.effort import some
from support.streams import TOOL_PARSERS

TOKENIZER = byte_vocabulary().build()
UNHELD = {"sarashina"}  # which writes strings in Python's single quotes
LOOSE = {"seed_oss"}  # which take one line end at each end of a value for framing


def enforced(tool_parser: str, case: str) -> tuple[str, bool]:
    """The Lark text of calls of the case's tool, and whether its grammar is held in it."""
    policy = call_policy([tool(CASES[case])], "required")
    assert policy is not None
    calls = calls_grammar(tool_parser, policy.tools, 1)
    assert calls is not None
    lark = to_lark(calls.calls, {}, Limits())
    return lark.text, policy.tools[0].arguments.param in lark.enforced


def accepts(lark: str, text: str) -> bool:
    matcher = LLMatcher(TOKENIZER, lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    data = list(text.encode())
    return bool(matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting())


def written(tool_parser: str, text: str, functions: list[dict[str, Any]]) -> str | None:
    """The call as the family writes it; None where it has no way to write this text."""
    try:
        return render_calls([{"name": "write", "arguments": {"input": text}}], tool_parser, functions)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("tool_parser", "case"), [(name, case) for turn, name in enumerate(TOOL_PARSERS) for case in some(CASES, 2, turn)]
)
def test_the_grammar_is_held_in_the_familys_own_framing(tool_parser: str, case: str) -> None:
    functions = as_functions([tool(CASES[case])])
    assert functions is not None
    lark, held = enforced(tool_parser, case)
    assert held is (tool_parser not in UNHELD)
    for text in CASES[case].inside:
        call = written(tool_parser, text, functions)
        if call is None or (tool_parser in LOOSE and text != text.strip("\n")):
            continue
        assert not held or accepts(lark, call), (call, lark)
        [found] = parse(call, tool_parser, tools=functions).tool_calls
        assert json.loads(found.arguments) == {"input": text}
    for text in CASES[case].outside if held else ():
        call = written(tool_parser, text, functions)
        assert call is None or not accepts(lark, call), call


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"type": "other"}, "tools[0].custom.format.type"),
        ("text", "tools[0].custom.format.type"),
        ({"type": "grammar"}, "tools[0].custom.format.definition"),
        ({"type": "grammar", "grammar": {"syntax": "lark"}}, "tools[0].custom.format.grammar.definition"),
        ({"type": "grammar", "syntax": "ebnf", "definition": "a"}, "tools[0].custom.format.syntax"),
        *(
            ({"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}},
             "tools[0].custom.format.grammar.definition")
            for syntax, definition in [
                ("regex", "(?=a)b"), ("regex", "("), ("lark", "begin: /a/"), ("lark", "start: /(?!a)/"),
                ("lark", "start: %json {}"), ("lark", "start: <eos>"), ("lark", "start: ~/a/"), ("lark", "start: 'a'"),
                ("lark", "start: X\n%import common.NOTHING -> X"), ("lark", ""),
            ]
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_held_is_refused_with_the_field(given: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        call_policy([{"type": "custom", "custom": {"name": "f", "format": given}}], "auto")
    assert caught.value.param == param


def test_a_grammar_binds_under_auto_and_free_text_does_not() -> None:
    grammar = call_policy([tool(CASES["sum"])], "auto")
    free = call_policy([{"type": "custom", "custom": {"name": "f"}}], "auto")
    assert grammar is not None
    assert free is not None
    assert (grammar.binding, free.binding) == (True, False)


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "custom", "custom": {"name": "write"}},
        {"type": "custom", "name": "write"},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool(CASES["sum"])]}},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "write"}]},
    ],
)  # fmt: skip
def test_custom_tools_are_chosen_by_name(choice: Any) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    policy = call_policy([other, tool(CASES["sum"])], choice)
    assert policy is not None
    assert ([one.name for one in policy.tools], policy.low) == (["write"], 1)
