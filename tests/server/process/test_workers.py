"""``--workers``: one port, one engine, several processes; what happens when one of them dies."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from pydantic import SecretStr

from portico.config import ModelSettings, Settings
from portico.protos import inference_pb2 as pb
from portico.protos.inference_pb2_grpc import InferenceStub
from portico.server.process.workers import pack, unpack
from support.openai_client import client_of
from support.processes import children, exists, runs
from support.server import running_server
from support.wait import until

WORKER = "portico.server.process.worker"


def test_settings_reach_a_worker_whole() -> None:
    settings = Settings(model="m", api_key=[SecretStr("k")], chat_template=Path("/t"), workers=3)
    assert unpack(pack(settings)) == settings
    entry = ModelSettings.model_validate({"model": "a", "sampling": {"top_k": 3}, "chat_template": "/t"})
    several = Settings(models=[entry], workers=3)
    assert unpack(pack(several)).each_model == several.each_model


@pytest.mark.slow
def test_workers_share_port_engine_and_keys(smollm2_path: Path) -> None:
    arguments = ("smollm2", "--workers", "2", "--grpc-port", "0", "--log-level", "info")
    with running_server(*arguments, env={"PORTICO_API_KEY": "k"}) as server:
        assert httpx.get(server.base_url + "/models", timeout=120).status_code == 401
        assert len(children(server.process.pid, WORKER)) == 2
        assert len(children(server.process.pid)) == 3, "two workers and one engine"

        def ask(number: int) -> str:
            with client_of(server, "k") as client:
                words: Any = {"structured_outputs": {"choice": [f"Worker {number} did it."]}}
                messages: Any = [{"role": "user", "content": "Who did it?"}]
                stream = client.chat.completions.create(
                    model="smollm2", messages=messages, max_tokens=80, stream=True, extra_body=words
                )
                return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(16))) == [f"Worker {number} did it." for number in range(16)]

        found = re.search(r"gRPC at \S+:(\d+)", server.log())
        assert found is not None
        with grpc.insecure_channel(f"127.0.0.1:{found[1]}") as channel:
            request = pb.ChatRequest(
                messages=[pb.Message(role="user", content="Hi")], sampling=pb.Sampling(max_tokens=4)
            )
            events = list(InferenceStub(channel).Chat(request, metadata=(("authorization", "Bearer k"),)))
        assert events[-1].finish.usage.completion_tokens > 0

        first = children(server.process.pid, WORKER)
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(set(children(server.process.pid, WORKER)) - {first[0]}) == 2)
        assert ask(0) == "Worker 0 did it."
        everyone = children(server.process.pid)
        assert server.stop() == 0
        assert not any(map(exists, everyone))


@pytest.mark.slow
def test_no_worker_outlives_its_parent(smollm2_path: Path) -> None:
    with running_server("smollm2", "--workers", "2", "--log-level", "error") as server:
        everyone = children(server.process.pid)
        assert len(everyone) == 3
        server.process.kill()
        server.process.wait()
        until(lambda: not any(map(runs, everyone)))
