"""JavaScript clients under Node against a running server: Anthropic's own SDK, its accumulator on every kind of stream,
and Vercel's AI SDK."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from portico.engines.replay import Script
from portico.events import Event, Finish
from portico.generation import Delta
from portico.protocols.anthropic import messages
from portico.protocols.anthropic.ids import call_id_for_model
from portico.protocols.anthropic.schema import MessagesRequest
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.validation import parse_body
from support.anthropic import answers, assert_valid
from support.generation import tiny_model, tiny_tokenizer
from support.js import Script as Js
from support.js import js  # noqa: F401  (a fixture)
from support.replay import Replaying, replaying

ANSWERS: dict[str, str | Script] = {
    "plain": "It is sunny. ☀️",
    "thinks": "<think>\nWhich city? 🗼\n</think>\n\nIt is sunny.",
    "calls": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    "thinks_and_calls": "<think>\nI ask.\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "answer": "Sunny in both.",
    "json": '{"city": "Paris"}',
    "fails": Script(tiny_tokenizer().encode("It is "), finish_reason="error", error="The GPU is on fire."),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, tool_parser="hermes", reasoning_parser="qwen3", keys=["sesame"]) as up:
        yield up


def run(js: Js, server: Replaying, scenario: str) -> Any:  # noqa: F811
    return js("anthropic.mjs", server.url, scenario, key="sesame")[0]


def test_create(js: Js, server: Replaying) -> None:  # noqa: F811
    message = run(js, server, "create")
    assert [block["text"] for block in message["content"]] == ["It is sunny. ☀️"]
    assert message["stop_reason"] == "end_turn"
    assert_valid("Message", message)


def test_stream(js: Js, server: Replaying) -> None:  # noqa: F811
    out = run(js, server, "stream")
    assert out["text"] == out["message"]["content"][0]["text"] == "It is sunny. ☀️"
    assert out["message"]["usage"]["output_tokens"] > 0


def test_tool_round_trip(js: Js, server: Replaying) -> None:  # noqa: F811
    out = run(js, server, "tool_round_trip")
    uses = [block for block in out["first"]["content"] if block["type"] == "tool_use"]
    assert [use["input"] for use in uses] == [{"city": "Paris"}, {"city": "Rome"}]
    assert all(use["id"].startswith("toolu_") for use in uses)
    assert out["first"]["stop_reason"] == "tool_use"
    assert out["second"]["content"][0]["text"] == "Sunny in both."
    assert "sunny in Rome" in server.prompts[-1]


def test_thinking_round_trip(js: Js, server: Replaying) -> None:  # noqa: F811
    out = run(js, server, "thinking_round_trip")
    assert out["thoughts"] == out["first"]["content"][0]["thinking"] == "Which city? 🗼"
    assert out["first"]["content"][0]["signature"]
    assert "<think>Which city? 🗼</think>" in server.prompts[-1]


def test_structured_output(js: Js, server: Replaying) -> None:  # noqa: F811
    assert json.loads(run(js, server, "structured")["content"][0]["text"]) == {"city": "Paris"}


def test_count_tokens(js: Js, server: Replaying) -> None:  # noqa: F811
    out = run(js, server, "count_tokens")
    assert out["counted"]["input_tokens"] == out["usage"]["input_tokens"] + out["usage"]["cache_read_input_tokens"]


def test_models(js: Js, server: Replaying) -> None:  # noqa: F811
    out = run(js, server, "models")
    assert [one["id"] for one in out["listed"]] == [out["one"]["id"]] == ["tiny"]


def test_errors(js: Js, server: Replaying) -> None:  # noqa: F811
    told = run(js, server, "errors")
    ids = [error.pop("request_id") for error in told.values()]
    assert all(id.startswith("req_") for id in ids[:3])
    assert told == {
        "unknown_model": {"class": "NotFoundError", "status": 404, "type": "not_found_error"},
        "bad_request": {"class": "BadRequestError", "status": 400, "type": "invalid_request_error"},
        "bad_key": {"class": "AuthenticationError", "status": 401, "type": "authentication_error"},
        "mid_stream": {"class": "APIError", "status": None, "type": "api_error"},
    }


@pytest.mark.parametrize("ai", [6, 7])
def test_the_ai_sdk(js: Js, server: Replaying, ai: int) -> None:  # noqa: F811
    """Vercel's SDK: a loop with a tool, whole and streamed, with the thoughts sent back, and an object."""
    out = js("ai_anthropic.mjs", server.url, key="sesame", ai=ai)[0]
    assert out["errors"] == []
    assert out["whole"] == out["streamed"] == "Sunny in both."
    assert out["reasoning"] == "I ask."
    assert out["calls"] == [["get_weather", {"city": "Paris"}]]
    assert out["object"] == {"city": "Paris"}
    assert out["parts"]["tool-call"] == out["parts"]["reasoning-end"] == 1
    assert any("<think>I ask.</think>" in prompt and "sunny in Paris" in prompt for prompt in server.prompts)


def some_answers(count: int) -> list[list[Event]]:
    """Answers of every kind, drawn at once because starting Node for each would take minutes."""
    found: list[list[Event]] = []

    @settings(max_examples=count, database=None, phases=[Phase.generate])
    @given(answers())
    def collect(events: list[Event]) -> None:
        found.append(events)

    collect()
    return found


def test_every_stream_folds_to_the_body(js: Js) -> None:  # noqa: F811
    model, signer = tiny_model(), Signer("a secret")
    body = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    request = parse_body(MessagesRequest, json.dumps(body).encode())
    asked = messages.read_request(request, model, signer)
    prompt = model.prompter.render_chat(**asked.prompt_arguments)
    streams, wholes = [], []
    for events in some_answers(300):
        generation = messages.generation(request, asked, prompt, model, "r1")
        stream = messages.MessageStream(request, generation, model, signer, message_id="msg_0", request_id="req_1")
        whole = messages.MessageBody(request, generation, model, signer, message_id="msg_0")
        sent = stream.start()
        for delta in (*(Delta(0, [event], []) for event in events), Delta(0, [], [], finish=Finish("stop"))):
            sent += stream.feed(delta)
            whole.feed(delta)
        streams.append({"stream": (sent + stream.finish()).decode()})
        wholes.append(json.loads(whole.body()))
    for folded, wanted in zip(js("fold_anthropic.mjs", lines=streams), wholes, strict=True):
        assert folded["stop_reason"] == wanted["stop_reason"]
        assert comparable(folded["content"]) == comparable(wanted["content"])


def comparable(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocks without what may differ: fresh ids, and numbers as JavaScript has them."""
    found = []
    for block in content:
        if block["type"] == "tool_use":
            block = {**block, "id": call_id_for_model(block["id"]), "input": numbers(block["input"])}
        found.append(block)
    return found


def numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None  # 1e999 is Infinity there, which JSON cannot print
    return value
