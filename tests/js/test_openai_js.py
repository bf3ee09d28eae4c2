"""OpenAI's own JavaScript SDK under Node against a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support_js import Script as Js
from support_js import js  # noqa: F401  (a fixture)
from support_replay import Replaying, replaying

ANSWERS = {
    "plain": "It is sunny. ☀️",
    "calls": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    "answer": "Sunny in both.",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, tool_parser="hermes", keys=["sesame"]) as up:
        yield up


def run(js: Js, server: Replaying, scenario: str) -> Any:  # noqa: F811
    return js("openai.mjs", server.url, scenario, key="sesame")[0]


def test_create(js: Js, server: Replaying) -> None:  # noqa: F811
    choice = run(js, server, "create")["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("It is sunny. ☀️", "stop")


def test_stream(js: Js, server: Replaying) -> None:  # noqa: F811
    out = run(js, server, "stream")
    message = out["completion"]["choices"][0]["message"]
    assert out["text"] == message["content"] == "It is sunny. ☀️"
    assert message["role"] == "assistant"


def test_tool_round_trip(js: Js, server: Replaying) -> None:  # noqa: F811
    out = run(js, server, "tool_round_trip")
    calls = out["first"]["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert out["first"]["finish_reason"] == "tool_calls"
    assert out["second"]["message"]["content"] == "Sunny in both."


def test_errors(js: Js, server: Replaying) -> None:  # noqa: F811
    assert run(js, server, "errors") == {
        "class": "NotFoundError",
        "status": 404,
        "code": "model_not_found",
        "param": "model",
    }
