"""OpenAI's end-to-end tests before a real vLLM, three ways: ``--engine vllm``; ``--engine grpc://`` to Portico's own
gRPC server, which has that vLLM; and ``--engine grpc://`` to ``vllm serve --grpc``.
How to run them: ``support/vllm.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from support.openai_suite import (  # noqa: F401
    TestErrors,
    test_answers,
    test_completions_take_text_and_ids,
    test_disconnect_aborts_the_generation,
    test_eight_streams_at_once,
    test_emoji_survive,
    test_logprobs,
    test_models,
    test_seeded_sampling_repeats,
    test_several_choices,
    test_stop_string,
    test_streaming_equals_not_streaming,
    test_usage_in_the_stream,
)
from support.server import RunningServer, grpc_port, running_server
from support.vllm import needs_vllm, vllm_server, vllms_own_server

pytestmark = needs_vllm

SCHEMA = {"type": "object", "properties": {"n": {"enum": [1, 2, 3]}}, "required": ["n"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "roll", "parameters": SCHEMA}}
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
OTHER_TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


@pytest.fixture(scope="module")
def behind() -> Iterator[RunningServer]:
    with vllm_server("--grpc-port", "0", "--log-level", "warning") as running:
        yield running


@pytest.fixture(scope="module", params=["vllm", "grpc", "vllm's grpc"])
def server(request: pytest.FixtureRequest, behind: RunningServer) -> Iterator[RunningServer]:
    if request.param == "vllm":
        yield behind
    elif request.param == "grpc":
        with running_server("--engine", f"grpc://127.0.0.1:{grpc_port(behind)}", "--log-level", "warning") as front:
            yield front
    else:
        with (
            vllms_own_server() as port,
            running_server("--engine", f"grpc://127.0.0.1:{port}", "--log-level", "warning") as front,
        ):
            yield front


def test_prompt_logprobs(client: OpenAI) -> None:
    answer = client.completions.create(
        model="smollm2", prompt="One, two,", max_tokens=1, echo=True, logprobs=1, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.token_logprobs[0] is None
    assert all(value is not None and value <= 0 for value in logprobs.token_logprobs[1:])


def test_schemas_hold(client: OpenAI) -> None:
    arguments = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Pick a number."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        "max_tokens": 60,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**arguments)  # type: ignore[call-overload]
    assert json.loads(whole.choices[0].message.content)["n"] in (1, 2, 3)
    chunks = client.chat.completions.create(stream=True, **arguments)  # type: ignore[call-overload]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "roll"}}])
def test_forced_calls_hold(client: OpenAI, choice: object) -> None:
    arguments = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Roll."}],
        "tools": [TOOL] if choice != "required" else [TOOL, OTHER_TOOL],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "max_tokens": 80,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**arguments)  # type: ignore[call-overload]
    (call,) = whole.choices[0].message.tool_calls
    assert whole.choices[0].finish_reason == ("tool_calls" if choice == "required" else "stop")
    given = json.loads(call.function.arguments)
    assert given["n"] in (1, 2, 3) if call.function.name == "roll" else isinstance(given["city"], str)
    name, text = "", ""
    for chunk in client.chat.completions.create(stream=True, **arguments):  # type: ignore[call-overload]
        for piece in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            name += piece.function.name or ""
            text += piece.function.arguments or ""
    assert (name, text) == (call.function.name, call.function.arguments)


def test_what_vllm_refuses_is_refused_before_the_first_byte(server: RunningServer) -> None:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 4}
    url = server.base_url + "/chat/completions"
    assert httpx.post(url, json=body, headers={"X-data-parallel-rank": "0"}, timeout=120).status_code == 200
    refused = httpx.post(url, json=body, headers={"X-data-parallel-rank": "7"}, timeout=120)
    assert refused.status_code == 400
    assert "data_parallel_rank" in refused.json()["error"]["message"]
