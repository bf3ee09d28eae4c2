"""Probes: what they say of a server that serves, drains, or has lost its engine; and that nothing is in their way."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx

from support.processes import children
from support.server import RunningServer, running_server
from support.wait import SAFETY, until

LONG = {"prompt": "Hi", "stream": True, "max_tokens": 100_000, "ignore_eos": True}
PROBES = ("/livez", "/readyz", "/health", "/ping")


def said(server: RunningServer) -> dict[str, int]:
    return {path: httpx.get(server.url + path, timeout=SAFETY).status_code for path in PROBES}


def test_while_it_drains(tmp_path: Path, smollm2_path: Path) -> None:
    """Connections are accepted as long as an answer is in flight, and told that this is not the place."""
    script = tmp_path / "answers.jsonl"
    script.write_text(json.dumps({"text": "word " * 1000}) + "\n")
    answers = (smollm2_path, "--engine", f"replay:{script}", "--replay-rate", "5", "--drain-timeout", "600")
    with running_server(*answers, env={"PORTICO_API_KEY": "k"}) as server, httpx.Client(timeout=SAFETY) as client:
        asked = {"headers": {"authorization": "Bearer k"}, "json": LONG}
        assert client.get(server.url + "/readyz").json() == {"status": "ok"}  # on a connection that is kept
        with httpx.stream("POST", server.base_url + "/completions", timeout=SAFETY, **asked) as stream:  # type: ignore[arg-type]
            lines = stream.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: said(server)["/readyz"] == 503)
            assert said(server) == {"/livez": 200, "/readyz": 503, "/health": 503, "/ping": 503}
            error = client.get(server.url + "/readyz").json()["error"]
            assert (error["code"], error["type"]) == ("draining", "overloaded_error")
            refused = client.post(server.base_url + "/completions", **asked)  # type: ignore[arg-type]
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert next(line for line in lines if line), "what was in flight goes on"
            server.process.send_signal(signal.SIGTERM)
            assert "shutting" in "".join(lines)
        assert server.process.wait(SAFETY) == 0


def test_without_its_engine(smollm2_path: Path) -> None:
    with running_server("smollm2", "--engine-silence", "1") as server:
        assert set(said(server).values()) == {200}
        (engine,) = children(server.process.pid, "llamacpp.child")
        os.kill(engine, signal.SIGSTOP)

        def reason() -> str:
            assert httpx.get(server.url + "/livez", timeout=SAFETY).status_code == 200
            answer = httpx.get(server.url + "/readyz", timeout=SAFETY).json()
            return str(answer.get("error", {}).get("code"))

        until(lambda: reason() == "engine_unavailable")
        until(lambda: reason() == "None")  # it has been started again
