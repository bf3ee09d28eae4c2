"""Batches of servers that are killed at random moments: every line has one result, and each ran once where none was."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.batches import ENDED, create, message_results, outcome, wait_for
from support.server import RunningServer, running_server
from support.store import postgres  # noqa: F401  (a fixture)
from support.tiny_models import write
from support.wait import until

pytestmark = pytest.mark.slow

LINES = 240
NAMES = [f"a-{n}" for n in range(LINES)]
TOKENS = "word " * 10


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "portico.db")
    return str(request.getfixturevalue("postgres").fresh())


def lines() -> list[dict[str, Any]]:
    return [
        {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": {"prompt": name, "max_tokens": 10}}
        for name in NAMES
    ]


class Servers:
    """Two over one store, each with an engine of its own that takes its time."""

    def __init__(self, stack: ExitStack, tmp_path: Path, where: str) -> None:
        answers = tmp_path / "answers.jsonl"
        answers.write_text(json.dumps({"text": TOKENS}) + "\n")
        self._arguments = (
            write("llama", tmp_path / "tiny.gguf"),
            *("--engine", f"replay:{answers}", "--replay-rate", "40", "--store", where, "--log-level", "info"),
        )
        self._stack = stack
        self.up = [self._start(), self._start()]
        self.logs: list[str] = []

    def _start(self) -> RunningServer:
        return self._stack.enter_context(running_server(*self._arguments))

    def kill(self, index: int) -> None:
        """One dies, and another takes its place."""
        one = self.up[index]
        one.process.send_signal(signal.SIGKILL)
        one.process.wait()
        self.logs.append(one.log())
        self.up[index] = self._start()

    def answered(self) -> int:
        """How many lines were answered by any of them."""
        return sum(log.count("POST /v1/completions 200") for log in (*self.logs, *(one.log() for one in self.up)))


@contextmanager
def two(tmp_path: Path, where: str) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack, tmp_path, where)


def client_of(server: RunningServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=600)


def test_each_line_runs_once(tmp_path: Path, where: str) -> None:
    """Where nobody dies: not even two servers over one store run a line twice."""
    with two(tmp_path, where) as servers:
        with client_of(servers.up[0]) as client:
            ids = [create(client, lines(), "/v1/completions") for _ in range(2)]
            for id in ids:
                outcome(client, wait_for(client, id), NAMES)
        assert servers.answered() == 2 * LINES
        assert all("POST /v1/completions 200" in one.log() for one in servers.up), "both have run one"


def test_every_line_has_one_result_whoever_dies(tmp_path: Path, where: str) -> None:
    draw = random.Random(where)
    with two(tmp_path, where) as servers:
        with client_of(servers.up[0]) as client:
            ids = [create(client, lines(), "/v1/completions") for _ in range(2)]
            params = {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
            asked = {"requests": [{"custom_id": name, "params": params} for name in NAMES[:50]]}
            messages = client.post("/v1/messages/batches", json=asked).json()["id"]
        for round in range(5):
            time.sleep(draw.random() * 1.5)
            servers.kill(round % 2)
        with client_of(servers.up[0]) as client:
            for id in ids:
                batch = wait_for(client, id)
                assert batch["status"] == "completed"
                outcome(client, batch, NAMES)
            path = f"/v1/messages/batches/{messages}"
            until(lambda: client.get(path).json()["processing_status"] == "ended")
            assert message_results(client, client.get(path).json()).keys() == set(NAMES[:50])
            assert len(client.get("/v1/files").json()["data"]) == 4, "of what did not come to an end nothing is left"


def test_a_server_that_is_stopped_gives_its_batches_back(tmp_path: Path) -> None:
    with two(tmp_path, str(tmp_path / "portico.db")) as servers:
        with client_of(servers.up[0]) as client:
            id = create(client, lines(), "/v1/completions")
            batch = wait_for(client, id, ("in_progress", *ENDED))
            until(lambda: client.get(f"/v1/batches/{id}").json()["request_counts"]["completed"] > 10)
        runs = next(one for one in servers.up if "POST /v1/completions 200" in one.log())
        assert runs.stop() == 0
        (left,) = (one for one in servers.up if one is not runs)
        with client_of(left) as client:
            batch = wait_for(client, id)
            outcome(client, batch, NAMES)
        assert "POST /v1/completions 200" in left.log()
