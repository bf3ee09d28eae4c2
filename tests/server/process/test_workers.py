"""``--workers``: one port, one engine, several processes; what happens when one of them dies."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
from openai import OpenAI
from pydantic import SecretStr

from portico.config import Settings
from portico.protos import inference_pb2 as pb
from portico.protos.inference_pb2_grpc import InferenceStub
from portico.server.process.workers import pack, unpack
from support.server import running_server


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers(pid: int) -> list[int]:
    """The children that are workers, not the engine."""
    return [c for c in children(pid) if b"portico.server.process.worker" in Path(f"/proc/{c}/cmdline").read_bytes()]


def test_settings_reach_a_worker_whole() -> None:
    settings = Settings(model="m", api_key=[SecretStr("k")], chat_template=Path("/t"), workers=3)
    assert unpack(pack(settings)) == settings


def test_workers_share_port_engine_and_keys(smollm2_path: Path) -> None:
    arguments = ("smollm2", "--workers", "2", "--grpc-port", "0", "--log-level", "info")
    with running_server(*arguments, env={"PORTICO_API_KEY": "k"}) as server:
        assert httpx.get(server.base_url + "/models", timeout=30).status_code == 401
        assert len(workers(server.process.pid)) == 2
        assert len(children(server.process.pid)) == 3, "two workers and one engine"

        def ask(number: int) -> str:
            with OpenAI(base_url=server.base_url, api_key="k", max_retries=0, timeout=120) as client:
                messages = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
                stream = client.chat.completions.create(
                    model="smollm2",
                    messages=messages,
                    temperature=0,
                    max_tokens=12,
                    stream=True,  # type: ignore[call-overload]
                )
                return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

        with ThreadPoolExecutor(8) as pool:
            assert all("Paris" in text for text in pool.map(ask, range(16)))

        found = re.search(r"gRPC at \S+:(\d+)", server.log())
        assert found is not None
        with grpc.insecure_channel(f"127.0.0.1:{found[1]}") as channel:
            request = pb.ChatRequest(
                messages=[pb.Message(role="user", content="Hi")], sampling=pb.Sampling(max_tokens=4)
            )
            events = list(InferenceStub(channel).Chat(request, metadata=(("authorization", "Bearer k"),)))
        assert events[-1].finish.usage.completion_tokens > 0

        first = workers(server.process.pid)
        os.kill(first[0], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while len(workers(server.process.pid)) != 2 or first[0] in workers(server.process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "Paris" in ask(0)
        everyone = children(server.process.pid)
        assert server.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in everyone)


def test_no_worker_outlives_its_parent(smollm2_path: Path) -> None:
    with running_server("smollm2", "--workers", "2", "--log-level", "error") as server:
        everyone = children(server.process.pid)
        assert len(everyone) == 3
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in everyone):
            assert time.monotonic() < deadline
            time.sleep(0.1)
