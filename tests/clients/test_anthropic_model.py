"""The Messages API over a real model: ``portico serve`` as a process, llama.cpp behind it, Anthropic's SDK in front."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from anthropic import Anthropic
from pydantic import BaseModel

from support.anthropic import assert_in_order, assert_valid, events_of
from support.certain import CAPITAL, beginning
from support.js import Script as Js
from support.js import js  # noqa: F401  (a fixture)
from support.server import RunningServer, running_server


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[RunningServer]:
    with running_server("smollm2", "--log-level", "warning") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120) as one:
        yield one


def ask(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "smollm2", "max_tokens": 40, "messages": messages, "extra_body": {"temperature": 0}, **more}


TOOL: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]},
}


def test_it_answers_and_streams_the_same(client: Anthropic, server: RunningServer) -> None:
    words = beginning(server)
    whole = client.messages.create(**ask(CAPITAL))
    assert whole.content[0].type == "text"
    assert whole.content[0].text.startswith(words)
    assert whole.stop_reason in ("end_turn", "max_tokens")
    assert_valid("Message", json.loads(whole.to_json()))
    with client.messages.stream(**ask(CAPITAL)) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[0].type == "text"
    assert streamed.content[0].text.startswith(words)
    assert streamed.usage.output_tokens > 0


def test_the_raw_stream(server: RunningServer) -> None:
    import httpx

    body = {**ask(CAPITAL), "stream": True}
    body |= body.pop("extra_body")
    events = events_of(httpx.post(server.base_url + "/messages", json=body, timeout=120).content)
    assert_in_order(events)
    for event in events:
        if event["type"] != "ping":
            assert_valid("RawMessageStreamEvent", event)


def test_cached_prompts_are_told_apart(client: Anthropic) -> None:
    """A request for no tokens reads the prompt into the cache; the next one finds it there."""
    request = ask(f"{CAPITAL} Think of its {'long ' * 60}history.", system="You are a guide.")
    counted = client.messages.count_tokens(**{key: request[key] for key in ("model", "messages", "system")})
    warmed = client.messages.create(**{**request, "max_tokens": 0})
    assert (warmed.content, warmed.usage.output_tokens) == ([], 0)
    found = client.messages.create(**request).usage
    assert found.cache_read_input_tokens is not None
    assert found.cache_read_input_tokens > counted.input_tokens / 2
    for usage in (warmed.usage, found):
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted.input_tokens


def test_a_begun_answer_is_continued(client: Anthropic) -> None:
    request = ask(CAPITAL)
    request["messages"].append({"role": "assistant", "content": "The capital of France is"})
    message = client.messages.create(**request)
    assert message.content[0].type == "text"
    assert message.content[0].text.startswith(" Paris")


@pytest.mark.parametrize(
    "choice", [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "get_weather"}]
)
def test_a_tool_that_must_be_used(client: Anthropic, choice: Any) -> None:
    request = ask("What is the weather in Paris?", tools=[TOOL], tool_choice=choice, max_tokens=80)
    message = client.messages.create(**request)
    assert message.stop_reason == "tool_use"
    (use,) = (block for block in message.content if block.type == "tool_use")
    assert use.name == "get_weather"
    assert use.input == {"city": "Paris"}
    request["messages"] += [
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]},
    ]
    del request["tool_choice"]
    assert client.messages.create(**request).usage.output_tokens > 0


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    population: Literal[1, 2, 3]


def test_structured_output(client: Anthropic) -> None:
    parsed = client.messages.parse(**ask("Paris, with its population.", max_tokens=100), output_format=City)
    assert isinstance(parsed.parsed_output, City)


@pytest.mark.slow
def test_other_clients(js: Js, server: RunningServer) -> None:  # noqa: F811
    """The JavaScript SDK, LangChain and pydantic-ai get the same model's words."""
    words = beginning(server)
    out = js("anthropic.mjs", server.url, "stream", model="smollm2", max_tokens=20)[0]
    assert out["text"] == out["message"]["content"][0]["text"] != ""
    counted = js("anthropic.mjs", server.url, "count_tokens", model="smollm2")[0]
    usage = counted["usage"]
    assert counted["counted"]["input_tokens"] == usage["input_tokens"] + usage["cache_read_input_tokens"]
    langchain = pytest.importorskip("langchain_anthropic")
    chat = langchain.ChatAnthropic(model="smollm2", base_url=server.url, api_key="none", temperature=0, max_tokens=40)
    assert chat.invoke(CAPITAL).content.startswith(words)
    pydantic_ai = pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    provider = AnthropicProvider(base_url=server.url, api_key="none")
    agent = pydantic_ai.Agent(AnthropicModel("smollm2", provider=provider), model_settings={"temperature": 0})
    assert agent.run_sync(CAPITAL).output.startswith(words)


@pytest.mark.slow
def test_a_recorded_answer_in_a_family_s_own_format(smollm2_path: Path, tmp_path: Path) -> None:
    """The same server from the command line, over recorded text: reasoning, a call, and a key that outlives it."""
    text = (
        '<think>\nI ask.\n</think>\n\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    )
    recorded = tmp_path / "answers.jsonl"
    recorded.write_text(json.dumps({"text": text}) + "\n")
    flags = ["--engine", f"replay:{recorded}", "--tool-parser", "hermes", "--reasoning-parser", "qwen3"]
    signatures = []
    for _ in range(2):
        with (
            running_server("smollm2", *flags, env={"PORTICO_SIGNING_KEY": "kept"}) as running,
            Anthropic(base_url=running.url, api_key="none", max_retries=0) as client,
        ):
            message = client.messages.create(
                **ask("Weather?", tools=[TOOL], max_tokens=200, thinking={"type": "adaptive"})
            )
            thought, use = message.content
            assert thought.type == "thinking"
            assert use.type == "tool_use"
            assert (thought.thinking, use.input) == ("I ask.", {"city": "Rome"})
            signatures.append(thought.signature)
    assert signatures[0] == signatures[1]
