"""The Responses API by OpenAI's client for JavaScript and by both providers of the AI SDK, its versions 6 and 7."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.js import Script as Js
from support.js import js  # noqa: F401  (a fixture)
from support.replay import Replaying, replaying

KEY = "sesame"
THOUGHT = "I have to ask."
ANSWERS = {
    "plain": "It is sunny. ☀️",
    "calls": f"<think>\n{THOUGHT}\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "sunny": "Sunny in Paris.",
    "json": '{"city": "Paris"}',
    "long": "word " * 400,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    store = str(tmp_path_factory.mktemp("store") / "portico.db")
    with replaying(ANSWERS, keys=[KEY], store=store, tool_parser="hermes", reasoning_parser="qwen3") as up:
        yield up


def test_openai(js: Js, server: Replaying) -> None:  # noqa: F811
    (told,) = js("responses.mjs", server.url, key=KEY)
    assert told["text"] == told["again"] == ANSWERS["plain"]
    assert told["items"] == ["user", "assistant", "user"]
    assert told["kinds"]["response.completed"] == 1
    assert told["output"] == ["reasoning", "message", "function_call"]
    assert told["call"] == told["parsed"] == {"city": "Paris"}
    assert told["numbers"] == list(range(len(told["numbers"])))
    assert told["end"] == ANSWERS["long"]
    assert told["refused"] == "NotFoundError"


@pytest.mark.parametrize("version", ["6", "7"])
@pytest.mark.parametrize("provider", ["openai", "open-responses"])
def test_ai_sdk(js: Js, server: Replaying, version: str, provider: str) -> None:  # noqa: F811
    first = len(server.prompts)
    (told,) = js("ai_responses.mjs", server.url, provider, key=KEY, ai=version)
    assert told["errors"] == []
    assert told["whole"] == told["streamed"] == told["stateless"] == ANSWERS["sunny"]
    assert told["calls"] == [["get_weather", {"city": "Paris"}]]
    assert told["steps"] == ["tool-calls", "stop"]
    assert told["reasoning"] == told["streamed_reasoning"] == THOUGHT
    assert told["next"] == ANSWERS["plain"]
    assert told["object"] == {"city": "Paris"}
    assert told["usage"]["outputTokens"] > 0
    second_turns = [prompt for prompt in server.prompts[first:] if "[[sunny]]" in prompt]
    assert len(second_turns) == 4
    for prompt in second_turns:  # the model sees all that it has said, whoever kept it
        assert "Let me look." in prompt
        if (provider, version) != ("open-responses", "6"):  # which gives no thoughts back
            assert f"<think>{THOUGHT}</think>" in prompt
