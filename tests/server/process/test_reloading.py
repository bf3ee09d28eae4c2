"""SIGHUP: keys and log level change in a running server, a wrong file changes nothing, and nobody dies of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from portico.config import Settings
from portico.errors import BadRequestError
from portico.server.process.reloading import OF_A_SERVER, Reloading
from support.processes import children
from support.server import RunningServer, running_server
from support.wait import SAFETY, until

CHAT = [{"role": "user", "content": "Hi"}]


def statuses(server: RunningServer, key: str) -> set[int]:
    """What several new connections are told, so that each worker is probably asked."""
    headers = {"authorization": f"Bearer {key}"}
    return {httpx.get(server.base_url + "/models", headers=headers, timeout=SAFETY).status_code for _ in range(8)}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_running_server(workers: int, tmp_path: Path, smollm2_path: Path) -> None:
    script, config = tmp_path / "answers.jsonl", tmp_path / "portico.toml"
    script.write_text(json.dumps({"text": "Hello."}) + "\n")
    config.write_text('api_key = ["old", "kept"]\nlog_level = "error"\n')
    arguments = (smollm2_path, "--engine", f"replay:{script}", "--config", config, "--workers", str(workers))
    with running_server(*arguments) as server:
        family = {server.process.pid, *children(server.process.pid)}
        assert statuses(server, "old") == statuses(server, "kept") == {200}
        assert statuses(server, "new") == {401}

        config.write_text('api_key = ["new", "kept"]\nlog_level = "info"\nclient_timeout = 9\n')
        server.process.send_signal(signal.SIGHUP)
        until(lambda: statuses(server, "new") == {200} and statuses(server, "old") == {401})
        assert statuses(server, "kept") == {200}
        until(lambda: "GET /v1/models 200" in server.log())
        (told,) = [line for line in server.log().splitlines() if "read anew" in line]
        assert told.endswith("1 API keys more, 1 less; log_level error → info; a restart is needed for client_timeout")
        assert not {"new", "old", "kept"} & set(told.replace(",", " ").split())

        for wrong in ("api_key = [", 'log_level = "loud"\n', "nonsense = 1\n", None):
            before = server.log().count("stay as they are")
            config.unlink() if wrong is None else config.write_text(wrong)
            server.process.send_signal(signal.SIGHUP)
            until(lambda before=before: server.log().count("stay as they are") > before)  # type: ignore[misc]
        for pid in family:
            os.kill(pid, signal.SIGHUP)  # as a terminal that closes does, or somebody who means well
        until(lambda: statuses(server, "new") == {200} and statuses(server, "old") == {401})
        assert {server.process.pid, *children(server.process.pid)} == family
        assert server.stop() == 0


def test_the_model_s_settings(tmp_path: Path, smollm2_path: Path) -> None:
    """The model is unloaded when its answers have ended, and loaded as it is wanted now."""
    script, config = tmp_path / "answers.jsonl", tmp_path / "portico.toml"
    script.write_text(json.dumps({"text": "Hello."}) + "\n")
    start = f"model = '{smollm2_path}'\nengine = 'replay:{script}'\n"
    config.write_text(f"{start}served_model_name = 'old'\n")
    with running_server("--config", config) as server:

        def told(name: str, **more: object) -> tuple[int, str]:
            body = {"model": name, "messages": CHAT, **more}
            answer = httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=SAFETY)
            return answer.status_code, answer.text

        assert told("old", n=2)[0] == 200
        config.write_text(f"{start}served_model_name = 'new'\nmax_choices = 1\nmax_in_flight = 3\n")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: told("new")[0] == 200)
        assert told("old")[0] == 404
        assert told("new", n=2)[0] == 400
        (line,) = [line for line in server.log().splitlines() if "read anew" in line]
        assert "served_model_name, max_in_flight, max_choices changed; 1 models more, 1 less" in line
        config.write_text("engine = 'portico://127.0.0.1:1'\n")  # nobody knows what it is called
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "a restart is needed for model, served_model_name, engine" in server.log())
        assert told("new")[0] == 200


def test_a_key_that_comes_has_its_batches_run(tmp_path: Path, smollm2_path: Path) -> None:
    script, config = tmp_path / "answers.jsonl", tmp_path / "portico.toml"
    script.write_text(json.dumps({"text": "Hello."}) + "\n")
    config.write_text('api_key = ["old"]\n')
    arguments = (smollm2_path, "--engine", f"replay:{script}", "--config", config, "--store", tmp_path / "store.db")
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": CHAT}}
    with running_server(*arguments) as server:
        config.write_text('api_key = ["new"]\n')
        server.process.send_signal(signal.SIGHUP)
        until(lambda: statuses(server, "new") == {200})
        with httpx.Client(headers={"authorization": "Bearer new"}, timeout=SAFETY) as client:
            upload = {"file": ("lines.jsonl", json.dumps(line).encode())}
            file = client.post(server.base_url + "/files", data={"purpose": "batch"}, files=upload).json()["id"]
            asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            batch = client.post(server.base_url + "/batches", json=asked).json()["id"]
            until(lambda: client.get(f"{server.base_url}/batches/{batch}").json()["status"] == "completed")


def test_a_server_that_others_reach_is_not_opened() -> None:
    settings = Settings(host="0.0.0.0", api_key=[SecretStr("k")])
    applied: list[Settings] = []
    for host in ("0.0.0.0", "127.0.0.1"):  # it stays bound where it is
        Reloading(settings, lambda host=host: Settings(host=host), applied.append, OF_A_SERVER).reload()  # type: ignore[misc]
    assert applied == []


def test_what_cannot_be_read_changes_nothing() -> None:
    def wrong() -> Settings:
        raise BadRequestError("no")

    applied: list[Settings] = []
    Reloading(Settings(), wrong, applied.append, OF_A_SERVER).reload()
    Reloading(Settings(), None, applied.append, OF_A_SERVER).reload()
    assert applied == []
