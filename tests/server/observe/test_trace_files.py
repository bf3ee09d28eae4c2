"""Traces on disk: within their bounds, the owner's alone, and the same whichever worker is asked."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from portico.server.observe import trace_files as module
from portico.server.observe.trace_files import TraceFiles
from portico.trace import Head, read_export
from support.processes import children
from support.server import running_server
from support.wait import SAFETY, until


def head(number: int, state: Any = "ok", began: float | None = None) -> Head:
    when = time.time() + number if began is None else began
    return Head(f"tr_{number:016x}", f"request-{number}", "POST", "/v1/x", when, redacted=False, state=state)


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "traces"
    one, other = TraceFiles(directory, 5), TraceFiles(directory, 5)
    for number in range(9):
        (one if number % 2 else other).end(head(number), {"trace": {}, "artifacts": ["x" * 1000]})
    assert [found.id for found in one.heads()] == [head(number).id for number in (8, 7, 6, 5, 4)]
    assert len(list(directory.iterdir())) == 10
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    monkeypatch.setattr(module, "MAX_BYTES", 3000)
    one.end(head(9), {"trace": {}, "artifacts": ["x" * 1000]})
    assert [found.id for found in other.heads()] == [head(9).id, head(8).id]


def test_what_is_open_and_what_is_no_trace(tmp_path: Path) -> None:
    files = TraceFiles(tmp_path, 5)
    files.begin(head(1, "open"))
    files.begin(head(2, "open", time.time() - 2 * module.OPEN_SECONDS))  # its process was killed
    (tmp_path / "tr_3.head").write_bytes(b"{")
    assert [found.id for found in files.heads()] == [head(1).id]
    assert files.read(head(1).id) is None
    files.end(head(1), {"artifacts": []})
    (found,) = files.heads()
    assert found.state == "ok"
    assert files.find("request-1") == found == files.find(found.id)
    assert files.find("request-2") is None
    assert files.read(found.id) == b'{"artifacts":[]}'
    (tmp_path / "secret.json").write_text("{}")
    assert files.read("secret") is files.read("../x") is None


@pytest.mark.slow
def test_every_worker_shows_all_requests_and_they_outlive_the_server(tmp_path: Path, smollm2_path: Path) -> None:
    script, kept = tmp_path / "answers.jsonl", tmp_path / "kept"
    script.write_text(json.dumps({"text": "Hello."}) + "\n")
    arguments = (smollm2_path, "--engine", f"replay:{script}", "--inspect")
    told = {"messages": [{"role": "user", "content": "Hi"}]}

    def listed(url: str) -> list[str]:
        traces = httpx.get(f"{url}/inspect/traces", timeout=SAFETY).json()["traces"]
        return [one["id"] for one in traces if one["state"] == "ok"]

    with running_server(*arguments, "--workers", "2", "--inspect-log", kept) as server:
        ids = [
            httpx.post(f"{server.base_url}/chat/completions", json=told, timeout=SAFETY).headers["x-portico-trace-id"]
            for _ in range(6)  # each on a connection of its own, so that both workers get some
        ]
        until(lambda: set(listed(server.url)) == set(ids))
        for _ in range(6):
            assert set(listed(server.url)) == set(ids)
        for id in ids:
            export = read_export(httpx.get(f"{server.url}/inspect/traces/{id}", timeout=SAFETY).content)
            assert export.trace.id == id
            assert export.of_kind("step")
            live = httpx.get(f"{server.url}/inspect/traces/{id}/live", timeout=SAFETY).text
            assert '"artifacts"' in live
        assert httpx.get(f"{server.url}/inspect/traces/tr_0", timeout=SAFETY).status_code == 404
        assert len(children(server.process.pid, "portico.server.process.worker")) == 2
    with running_server(*arguments, "--inspect-log", kept) as server:
        assert set(listed(server.url)) == set(ids)
        assert httpx.get(f"{server.url}/inspect/traces/{ids[0]}", timeout=SAFETY).status_code == 200
