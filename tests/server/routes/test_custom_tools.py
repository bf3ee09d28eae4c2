"""Custom tools and ``allowed_tools`` of chat completions, on a real model that keeps to no grammar by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from support.openai_client import client_of
from support.server import RunningServer, running_server

LARK = """start: move (";" move)*
move: PIECE SQUARE "-" SQUARE
PIECE: "K" | "Q" | "N"
SQUARE: /[a-h][1-8]/
"""
MOVES = re.compile(r"[KQN][a-h][1-8]-[a-h][1-8](;[KQN][a-h][1-8]-[a-h][1-8])*")
FORMATS: dict[str, tuple[dict[str, Any] | None, str]] = {
    "nothing said": (None, r"(?s).*"),
    "text": ({"type": "text"}, r"(?s).*"),
    "lark": ({"type": "grammar", "grammar": {"syntax": "lark", "definition": LARK}}, MOVES.pattern),
    "regex": (
        {"type": "grammar", "grammar": {"syntax": "regex", "definition": r"\+4[0-9]( [0-9]{2,3}){2}"}},
        r"\+4[0-9]( [0-9]{2,3}){2}",
    ),
}
FUNCTION: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"far": {"type": "boolean"}}, "required": ["far"]},
    },
}
MESSAGES: Any = [{"role": "user", "content": "Use a tool, please."}]


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[RunningServer]:
    with running_server("smollm2", "--log-level", "warning", "--tool-parser", "hermes") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[OpenAI]:
    with client_of(server) as one:
        yield one


def custom(given: dict[str, Any] | None, name: str = "write") -> dict[str, Any]:
    inside: dict[str, Any] = {"name": name, "description": "Writes."}
    return {"type": "custom", "custom": inside if given is None else {**inside, "format": given}}


def called(client: OpenAI, streamed: bool, **fields: Any) -> tuple[str, list[tuple[str, str, str]]]:
    """The finish reason, and of each call its type, name and text."""
    asked: dict[str, Any] = {"model": "smollm2", "messages": MESSAGES, "temperature": 0, "max_tokens": 60, **fields}
    if not streamed:
        choice = client.chat.completions.create(**asked).choices[0]
        calls = choice.message.tool_calls or []
        return choice.finish_reason, [
            ("custom", call.custom.name, call.custom.input)
            if call.type == "custom"
            else ("function", call.function.name, call.function.arguments)
            for call in calls
        ]
    found: dict[int, list[str]] = {}
    finish = ""
    for chunk in client.chat.completions.create(**asked, stream=True):
        finish = chunk.choices[0].finish_reason or finish
        for call in chunk.choices[0].delta.tool_calls or []:
            piece = call.model_dump(exclude_none=True)
            inside = piece.get("custom") or piece.get("function") or {}
            one = found.setdefault(call.index, ["", "", ""])
            one[0] = one[0] or piece.get("type", "")
            one[1] += inside.get("name", "")
            one[2] += inside.get("input", inside.get("arguments", ""))
    return finish, [(kind, name, text) for kind, name, text in found.values()]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("choice", ["named", "required"])
def test_the_input_keeps_to_its_format(client: OpenAI, kind: str, choice: str) -> None:
    given, pattern = FORMATS[kind]
    named: Any = {"type": "custom", "custom": {"name": "write"}} if choice == "named" else "required"
    fields: dict[str, Any] = {"tools": [custom(given)], "tool_choice": named, "parallel_tool_calls": False}
    if pattern == r"(?s).*":
        fields["max_tokens"] = 24  # any text would do, and this model ends none
    finish, calls = called(client, False, **fields)
    assert [(one, name) for one, name, _ in calls] == [("custom", "write")]
    if finish != "length":
        assert re.fullmatch(pattern, calls[0][2])
        assert finish == ("stop" if choice == "named" else "tool_calls")
    assert called(client, True, **fields) == (finish, calls)


@pytest.mark.parametrize("streamed", [False, True])
def test_only_the_allowed_tools_are_called(client: OpenAI, streamed: bool) -> None:
    regex = FORMATS["regex"][0]
    tools = [FUNCTION, custom(regex), custom({"type": "text"}, "shout")]
    listed: dict[str, list[dict[str, Any]]] = {
        "look": [{"type": "function", "function": {"name": "look"}}],
        "write": [{"type": "custom", "custom": {"name": "write"}}],
    }
    for name, allowed in listed.items():
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": allowed}}
        finish, calls = called(client, streamed, tools=tools, tool_choice=choice)
        assert {one for _, one, _ in calls} == {name}
        assert finish in ("tool_calls", "length")


def test_what_was_called_is_read_back(client: OpenAI) -> None:
    call = {"id": "call_1", "type": "custom", "custom": {"name": "write", "input": "+49 30 123"}}
    history = [
        *MESSAGES,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "written"},
    ]
    given = FORMATS["regex"][0]
    answer = client.chat.completions.create(model="smollm2", messages=history, tools=[custom(given)], max_tokens=5)  # type: ignore[list-item]
    assert answer.usage is not None


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"type": "grammar", "grammar": {"syntax": "lark", "definition": "begin: /a/"}}, "tools[1].custom.format"),
        ({"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: b"}}, "tools[1].custom.format"),
        ({"type": "grammar", "grammar": {"syntax": "regex", "definition": "(?=a)b"}}, "tools[1].custom.format"),
        ({"type": "grammar", "grammar": {"syntax": "ebnf", "definition": "a"}}, "tools[1].custom.format"),
        ({"type": "shape"}, "tools[1].custom.format"),
    ],
)
def test_a_format_that_cannot_be_held_is_refused(client: OpenAI, given: dict[str, Any], place: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        called(client, False, tools=[{"type": "web_search"}, custom(given)], tool_choice="required")
    assert str(caught.value.param).startswith(place)
    assert "R_" not in caught.value.message  # a name of ours
