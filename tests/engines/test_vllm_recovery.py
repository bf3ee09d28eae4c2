"""A real vLLM with adapters: what they change; then how its core dies, what clients see, and how it comes back by
itself. How to run this: ``support/vllm.py``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support.openai_client import client_of
from support.server import RunningServer, grpc_port, running_server
from support.vllm import needs_vllm, vllm_server, write_adapter

pytestmark = needs_vllm

SAFETY = 600  # seconds; vLLM takes minutes to load
CAPITAL = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("adapters")
    strong, nothing = write_adapter(directory / "strong", 0.05), write_adapter(directory / "nothing", 0.0)
    arguments = ("--lora", f"strong={strong}", "--lora", f"nothing={nothing}", "--grpc-port", "0")
    with vllm_server(*arguments, options="--max-loras 2") as running:
        yield running


@pytest.fixture(scope="module")
def front(server: RunningServer) -> Iterator[RunningServer]:
    """Another front door, which has that server as its engine."""
    with running_server("--engine", f"grpc://127.0.0.1:{grpc_port(server)}") as running:
        yield running


def answer(server: RunningServer, model: str = "smollm2") -> str:
    with client_of(server) as client:
        whole = client.chat.completions.create(model=model, messages=CAPITAL, temperature=0, max_tokens=16)  # type: ignore[arg-type]
        assert whole.model == model
        return whole.choices[0].message.content or ""


def processes(named: str) -> list[int]:
    """The running processes in whose command line ``named`` stands."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and named.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SAFETY
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def health(server: RunningServer) -> int:
    return httpx.get(server.url + "/health", timeout=SAFETY).status_code


def test_adapters_are_models(server: RunningServer) -> None:
    cards = httpx.get(server.base_url + "/models").json()["data"]
    assert [(card["id"], card.get("parent")) for card in cards] == [
        ("smollm2", None),
        ("strong", "smollm2"),
        ("nothing", "smollm2"),
    ]
    assert (
        httpx.post(server.base_url + "/chat/completions", json={"model": "x", "messages": CAPITAL}).status_code == 404
    )


def test_an_adapter_changes_the_answer_and_only_its_own(server: RunningServer) -> None:
    plain = answer(server)
    assert "Paris" in plain
    assert answer(server, "nothing") == plain
    assert answer(server, "strong") != plain
    with ThreadPoolExecutor(6) as pool:  # in one batch
        mixed = list(pool.map(lambda name: answer(server, name), ["smollm2", "strong", "nothing"] * 2))
    assert mixed[0] == mixed[2] == mixed[3] == mixed[5] == plain
    assert "Paris" not in mixed[1] + mixed[4]


def test_death_of_the_core_and_its_return(server: RunningServer, front: RunningServer) -> None:
    """What was in flight goes on when it is back, and counts each token once; what comes meanwhile is refused."""
    segments = len(os.listdir("/dev/shm"))
    asked = {"model": "smollm2", "messages": CAPITAL, "stream": True, "stream_options": {"include_usage": True}}
    for _ in range(2):
        (core,) = processes("VLLM::EngineCore")
        streams, clients = [], [client_of(server), client_of(front)]
        for client in clients:
            stream = client.chat.completions.create(**asked, max_tokens=1500, extra_body={"ignore_eos": True})  # type: ignore[call-overload]
            next(stream)
            streams.append(stream)
        os.kill(core, signal.SIGKILL)
        until(lambda: health(server) == 503 and health(front) == 503)
        refused = httpx.post(server.base_url + "/chat/completions", json={"model": "smollm2", "messages": CAPITAL})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        for stream in streams:
            *_, last = stream
            assert last.usage.completion_tokens == 1500
        until(lambda: health(server) == 200 and health(front) == 200)
        assert "Paris" in answer(server)
        assert "Paris" in answer(front)
        assert answer(server, "strong") != answer(server)
        for client in clients:
            client.close()
    assert len(processes("VLLM::")) == len(processes("VLLM::EngineCore")) + len(processes("VLLM::Worker"))
    assert len(processes("VLLM::EngineCore")) == 1
    assert len(os.listdir("/dev/shm")) <= segments, "shared memory is given back"


def test_a_misfit_adapter_is_told_at_start(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "misfit", 1.0, rank=64)
    with pytest.raises(AssertionError, match="adapter 'misfit'"), vllm_server("--lora", f"misfit={path}"):
        pass


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_behind(how: signal.Signals) -> None:
    others = set(processes("VLLM::") + processes("portico.engines.vllm.child"))
    with vllm_server() as running:
        assert set(processes("VLLM::EngineCore")) - others
        running.process.send_signal(how)
        running.process.wait(SAFETY)
        until(lambda: others.issuperset(processes("VLLM::") + processes("portico.engines.vllm.child")))
