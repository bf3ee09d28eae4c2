"""A real vLLM behind the front door, both ways: ``--engine vllm`` and ``--engine grpc`` to ``vllm serve --grpc``.

Skipped unless asked for, because it needs a second environment of several gigabytes and minutes to start. In one with
vLLM in it (0.32.0 was tested, its CPU build), and a directory with a small chat model in Hugging Face's layout:

    pip install 'portico[grpc,test]' smg-grpc-servicer
    PORTICO_VLLM_MODEL=DIR pytest -m vllm tests/engines/test_vllm.py

``PORTICO_VLLM_ARGS`` are further options of vLLM, such as ``--enforce-eager --dtype float32 --max-model-len 2048``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

import support_server
from support_server import RunningServer, running_server

MODEL = os.environ.get("PORTICO_VLLM_MODEL", "")
ARGUMENTS = os.environ.get("PORTICO_VLLM_ARGS", "")

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed in this environment"),
    pytest.mark.skipif(not MODEL, reason="PORTICO_VLLM_MODEL names no model directory"),
]

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
CAPITAL = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
SCHEMA = {"type": "object", "properties": {"n": {"enum": [1, 2, 3]}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture(scope="module", params=["vllm", "grpc"])
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    support_server.START_SECONDS = 600
    if request.param == "vllm":
        arguments = ["--engine", "vllm", "--engine-args", ARGUMENTS, "--served-model-name", "m"]
        with running_server(MODEL, *arguments, env=ENVIRONMENT) as running:
            yield running
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    vllm = shutil.which("vllm", path=str(Path(sys.executable).parent)) or "vllm"
    command = [vllm, "serve", MODEL, "--grpc", "--host", "127.0.0.1", "--port", str(port), *ARGUMENTS.split()]
    engine = subprocess.Popen(
        command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with running_server("--engine", f"grpc://127.0.0.1:{port}", "--served-model-name", "m") as running:
            yield running
    finally:
        engine.terminate()
        engine.wait(60)


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=180) as one:
        yield one


def streamed(client: OpenAI, **arguments: object) -> str:
    chunks = client.chat.completions.create(model="m", stream=True, **arguments)  # type: ignore[call-overload]
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_answers_and_streams_alike(client: OpenAI) -> None:
    arguments = {"messages": CAPITAL, "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(model="m", **arguments)  # type: ignore[call-overload]
    assert "Paris" in whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    assert streamed(client, **arguments) == whole.choices[0].message.content


def test_choices_stop_strings_and_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="m", messages=CAPITAL, temperature=0, max_tokens=24, n=2, stop=["Paris"], logprobs=True, top_logprobs=2
    )  # type: ignore[call-overload]
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        assert "Paris" not in choice.message.content
        assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in choice.logprobs.content)


def test_prompt_logprobs(client: OpenAI) -> None:
    answer = client.completions.create(
        model="m", prompt="One, two,", max_tokens=1, echo=True, logprobs=1, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.token_logprobs[0] is None
    assert all(value is not None and value <= 0 for value in logprobs.token_logprobs[1:])


def test_constraints_hold(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "Pick a number."}],
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        max_tokens=60,
    )
    assert json.loads(answer.choices[0].message.content or "")["n"] in (1, 2, 3)
    called = client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "Roll."}],
        tools=[{"type": "function", "function": {"name": "roll", "parameters": SCHEMA}}],
        tool_choice={"type": "function", "function": {"name": "roll"}},
        max_tokens=80,
    )  # type: ignore[call-overload]
    (call,) = called.choices[0].message.tool_calls
    assert call.function.name == "roll"
    assert json.loads(call.function.arguments)["n"] in (1, 2, 3)


def test_refusals_come_before_the_first_byte(server: RunningServer) -> None:
    body = {"model": "m", "messages": CAPITAL, "stream": True, "logit_bias": {"99999999": 1}}
    assert httpx.post(server.base_url + "/chat/completions", json=body, timeout=60).status_code == 400


def test_a_disconnect_frees_the_engine(client: OpenAI) -> None:
    for _ in range(4):
        stream = client.chat.completions.create(
            model="m", messages=CAPITAL, stream=True, max_tokens=1500, extra_body={"ignore_eos": True}
        )  # type: ignore[call-overload]
        next(iter(stream))
        stream.close()
    started = time.monotonic()
    client.chat.completions.create(model="m", messages=CAPITAL, max_tokens=4)  # type: ignore[call-overload]
    assert time.monotonic() - started < 30
