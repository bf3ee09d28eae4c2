"""Responses in the background of several workers: any of them tells of each, and what is killed has failed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.processes import children
from support.responses import assert_in_order, events_of
from support.server import RunningServer, running_server
from support.wait import until

pytestmark = pytest.mark.slow

TALES = {"input": "Tell a story", "background": True, "temperature": 0, "max_output_tokens": 40}


def ask(server: RunningServer, method: str, path: str, body: Any = None) -> httpx.Response:
    """Over a connection of its own, so that any worker may answer."""
    return httpx.request(method, server.base_url + path, json=body, timeout=300)


def test_any_worker_tells_and_stops(smollm2_path: Path, tmp_path: Path) -> None:
    with running_server("smollm2", "--workers", "2", "--store", tmp_path / "a.db") as server:
        made = [ask(server, "POST", "/responses", TALES).json()["id"] for _ in range(3)]
        for id in made * 2:
            answer = ask(server, "GET", f"/responses/{id}?stream=true")
            lines = [line for line in answer.content.split(b"\n") if not line.startswith(b"id: ")]
            events = events_of(b"\n".join(lines))
            assert_in_order(events, background=True)
            assert ask(server, "GET", f"/responses/{id}").json() == events[-1]["response"]
        endless = {**TALES, "max_output_tokens": 8000}
        for _ in range(3):
            id = ask(server, "POST", "/responses", endless).json()["id"]
            assert ask(server, "POST", f"/responses/{id}/cancel").json()["status"] in ("cancelled", "incomplete")


def test_what_was_being_made_when_all_was_killed_has_failed(smollm2_path: Path, tmp_path: Path) -> None:
    arguments = ("smollm2", "--store", tmp_path / "a.db")
    with running_server(*arguments) as server:
        kept = ask(server, "POST", "/responses", {"input": "Hi", "max_output_tokens": 4}).json()
        lost = ask(server, "POST", "/responses", {**TALES, "max_output_tokens": 8000}).json()["id"]
        until(lambda: ask(server, "GET", f"/responses/{lost}").json()["status"] == "in_progress")
        for pid in (server.process.pid, *children(server.process.pid)):
            os.kill(pid, signal.SIGKILL)
        server.process.wait()
    with running_server(*arguments) as server:
        assert ask(server, "GET", f"/responses/{kept['id']}").json() == kept
        until(lambda: ask(server, "GET", f"/responses/{lost}").json()["status"] == "failed")
        assert ask(server, "GET", f"/responses/{lost}").json()["error"]["code"] == "server_error"
