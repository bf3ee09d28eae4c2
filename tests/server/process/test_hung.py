"""A hung engine is a dead engine: it shows on /health, comes back, and does not keep the server from ending."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from support.processes import children, exists
from support.server import RunningServer, running_server
from support.wait import SAFETY, until

LONG = {"prompt": "Once", "max_tokens": 4000, "stream": True, "ignore_eos": True}


def health(server: RunningServer) -> int:
    return httpx.get(f"{server.url}/health", timeout=SAFETY).status_code


@pytest.mark.slow
def test_a_hung_engine_shows_and_comes_back(smollm2_path: Path) -> None:
    with running_server("smollm2", "--context-length", "1024", "--engine-silence", "2") as server:
        (first,) = children(server.process.pid, "llamacpp.child")
        os.kill(first, signal.SIGSTOP)
        until(lambda: health(server) == 503)
        until(lambda: health(server) == 200)
        assert children(server.process.pid, "llamacpp.child") not in ([], [first])
        answer = httpx.post(
            f"{server.url}/v1/completions", json={**LONG, "max_tokens": 2, "stream": False}, timeout=SAFETY
        )
        assert answer.json()["usage"]["completion_tokens"] == 2
        assert "the engine is hung" in server.log()


@pytest.mark.slow
def test_the_server_ends_although_its_engine_hangs(smollm2_path: Path) -> None:
    with running_server("smollm2", "--drain-timeout", "1") as server:
        (engine,) = children(server.process.pid, "llamacpp.child")
        with httpx.stream("POST", f"{server.url}/v1/completions", json=LONG, timeout=SAFETY) as stream:
            lines = stream.iter_lines()
            next(lines)
            os.kill(engine, signal.SIGSTOP)
            server.process.send_signal(signal.SIGTERM)
            assert "shutting" in "".join(lines)
        assert server.stop(SAFETY) == 0
        assert not exists(engine)


@pytest.mark.slow
def test_the_server_ends_although_a_worker_hangs(smollm2_path: Path) -> None:
    with running_server("smollm2", "--workers", "2", "--drain-timeout", "1") as server:
        workers = children(server.process.pid, "portico.server")
        os.kill(workers[0], signal.SIGSTOP)
        assert server.stop(SAFETY) == 0
        assert not any(map(exists, workers))
