"""A published gateway in front of Portico's VllmEngine service: what it does with any worker of that protocol works.

Needs the ``smg`` program, which comes with ``portico[gateways]``: in this environment, on the PATH, or named by
``PORTICO_SMG``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from support.certain import CAPITAL, beginning
from support.server import RunningServer, running_server
from support.wait import SAFETY, until

HERE = str(Path(sys.executable).parent)
GATEWAY = os.environ.get("PORTICO_SMG") or shutil.which("smg", path=HERE) or shutil.which("smg")
QUESTION = [{"role": "user", "content": CAPITAL}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 6}},
    "required": ["city"],
    "additionalProperties": False,
}

pytestmark = pytest.mark.skipif(GATEWAY is None, reason="the gateway is not installed: pip install 'portico[gateways]'")


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="module")
def worker(smollm2_path: Path) -> Iterator[RunningServer]:
    with running_server("smollm2", "--grpc-port", "0", "--log-level", "info") as running:
        yield running


@pytest.fixture(scope="module")
def client(worker: RunningServer) -> Iterator[OpenAI]:
    found = re.search(r"gRPC at (\S+:\d+)", worker.log())
    assert found is not None
    assert GATEWAY is not None
    port, metrics = free_ports(2)
    command = [
        *(GATEWAY, "launch", "--worker-urls", f"grpc://{found[1]}", "--backend", "vllm", "--host", "127.0.0.1"),
        *("--port", str(port), "--prometheus-port", str(metrics)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        body = {"model": "smollm2", "messages": QUESTION, "max_tokens": 1}
        deadline = time.monotonic() + SAFETY
        while True:
            try:
                if httpx.post(url + "/chat/completions", json=body, timeout=120).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < deadline, "the gateway did not come up"
            time.sleep(0.2)
        with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120) as one:
            yield one
    finally:
        process.terminate()
        process.wait(120)


def test_chat_and_stream(client: OpenAI, worker: RunningServer) -> None:
    words = beginning(worker)
    arguments = {"messages": QUESTION, "temperature": 0, "max_tokens": 20}
    whole = client.chat.completions.create(model="smollm2", **arguments)  # type: ignore[call-overload]
    assert whole.choices[0].message.content.startswith(words)
    assert whole.choices[0].finish_reason in ("stop", "length")
    chunks = client.chat.completions.create(model="smollm2", stream=True, **arguments)  # type: ignore[call-overload]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text.startswith(words)


def test_schema(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2",
        messages=QUESTION,  # type: ignore[arg-type]
        max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
    )
    assert set(json.loads(answer.choices[0].message.content or "")) == {"city"}


def test_forced_call(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Weather in Paris?"}],
        max_tokens=80,
        temperature=0,
        tools=[{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}],
        tool_choice="required",
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls
    assert answer.choices[0].message.tool_calls[0].function.name == "get_weather"  # type: ignore[union-attr]


def test_a_client_that_leaves_frees_the_engine(client: OpenAI, worker: RunningServer) -> None:
    stream = client.chat.completions.create(
        model="smollm2", messages=QUESTION, stream=True, max_tokens=8000, extra_body={"ignore_eos": True}
    )  # type: ignore[call-overload]
    iterator = iter(stream)
    next(iterator)
    next(iterator)
    stream.close()
    until(lambda: "portico_requests_in_flight 0.0" in httpx.get(worker.url + "/metrics", timeout=120).text)
