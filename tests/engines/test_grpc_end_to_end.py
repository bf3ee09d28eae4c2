"""OpenAI's end-to-end tests with a network between front door and model: HTTP -> Portico -> VllmEngine -> Portico ->
llama.cpp; and what happens to clients when the model's server dies and comes back."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from support.openai_client import client_of
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
from support.wait import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[RunningServer]:
    with (
        running_server("smollm2", "--grpc-port", "0", "--log-level", "warning", env={"PORTICO_API_KEY": "k"}) as behind,
        running_server(
            "--engine", f"grpc://127.0.0.1:{grpc_port(behind)}", "--log-level", "warning",
            env={"PORTICO_ENGINE_API_KEY": "k"},
        ) as front,
    ):  # fmt: skip
        yield front


def test_schemas_and_forced_calls_hold(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2, 3]}}, "required": ["n"]}
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Pick a number."}],
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": False}},
        max_tokens=60,
    )
    assert json.loads(answer.choices[0].message.content or "")["n"] in (1, 2, 3)
    tool = {"type": "function", "function": {"name": "roll", "parameters": schema}}
    called = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Roll."}],
        tools=[tool],  # type: ignore[list-item]
        tool_choice="required",
        max_tokens=80,
    )
    calls = called.choices[0].message.tool_calls
    assert calls
    assert calls[0].function.name == "roll"  # type: ignore[union-attr]


def test_death_and_return_of_the_engine(smollm2_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    behind_arguments = ("smollm2", "--grpc-port", str(port), "--log-level", "error")
    with running_server(*behind_arguments) as behind:
        front_context = running_server("--engine", f"grpc://127.0.0.1:{port}", "--log-level", "warning")
        front = front_context.__enter__()
        client = client_of(front)
        stream = client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "Count."}],
            stream=True,
            max_tokens=200,
            extra_body={"ignore_eos": True},
        )
        iterator = iter(stream)
        for _ in range(4):
            next(iterator)
        behind.process.send_signal(signal.SIGKILL)
        behind.process.wait()
    try:
        until(lambda: httpx.get(front.url + "/health", timeout=120).status_code == 503)
        with running_server(*behind_arguments):
            until(lambda: httpx.get(front.url + "/health", timeout=120).status_code == 200)
            *_, last = iterator  # the answer waited, and goes on
            assert last.choices[0].finish_reason == "length"
            answer = client.chat.completions.create(
                model="smollm2", messages=[{"role": "user", "content": "Hi"}], max_tokens=4
            )
            assert answer.choices[0].message.content
    finally:
        client.close()
        front_context.__exit__(None, None, None)
