"""A hung engine is a dead engine: it shows on /health, comes back, and does not keep the server from ending."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from support.server import RunningServer, running_server

SAFETY = 120  # seconds after which a test gives up
LONG = {"prompt": "Once", "max_tokens": 4000, "stream": True, "ignore_eos": True}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SAFETY
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def children(server: RunningServer, module: str) -> list[int]:
    """The server's processes that run ``module``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == server.process.pid and module.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            pass
    return found


def health(server: RunningServer) -> int:
    return httpx.get(f"{server.url}/health", timeout=SAFETY).status_code


def test_a_hung_engine_shows_and_comes_back(smollm2_path: Path) -> None:
    with running_server("smollm2", "--context-length", "1024", "--engine-silence", "2") as server:
        (first,) = children(server, "llamacpp.child")
        os.kill(first, signal.SIGSTOP)
        until(lambda: health(server) == 503)
        until(lambda: health(server) == 200)
        assert children(server, "llamacpp.child") not in ([], [first])
        answer = httpx.post(
            f"{server.url}/v1/completions", json={**LONG, "max_tokens": 2, "stream": False}, timeout=SAFETY
        )
        assert answer.json()["usage"]["completion_tokens"] == 2
        assert "the engine is hung" in server.log()


def test_the_server_ends_although_its_engine_hangs(smollm2_path: Path) -> None:
    with running_server("smollm2", "--drain-timeout", "1") as server:
        (engine,) = children(server, "llamacpp.child")
        with httpx.stream("POST", f"{server.url}/v1/completions", json=LONG, timeout=SAFETY) as stream:
            lines = stream.iter_lines()
            next(lines)
            os.kill(engine, signal.SIGSTOP)
            server.process.send_signal(signal.SIGTERM)
            assert "shutting" in "".join(lines)
        assert server.stop(SAFETY) == 0
        assert not Path(f"/proc/{engine}").exists()


def test_the_server_ends_although_a_worker_hangs(smollm2_path: Path) -> None:
    with running_server("smollm2", "--workers", "2", "--drain-timeout", "1") as server:
        workers = children(server, "portico.server")
        os.kill(workers[0], signal.SIGSTOP)
        assert server.stop(SAFETY) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
