"""The audit log: who did what when, from the terminal and over HTTP, and nothing of what was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from portico.commands.keys import command
from portico.config import Settings
from portico.keys import Key, hash_of
from portico.keys.audit import Audit
from portico.server.observe.audit import AuditObserver
from portico.server.process.reloading import OF_A_SERVER, Reloading
from support.replay import replaying
from support.wait import SAFETY, until


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_keys_from_their_making_to_their_end(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    where = ("--store", str(tmp_path / "store.db"), "--audit-log", str(file), "--json")
    made = json.loads(CliRunner().invoke(command, ["add", "ann", *where], catch_exceptions=False).stdout)
    CliRunner().invoke(command, ["rotate", "ann", *where], catch_exceptions=False)
    CliRunner().invoke(command, ["list", *where], catch_exceptions=False)
    CliRunner().invoke(command, ["revoke", "ann", *where], catch_exceptions=False)
    CliRunner().invoke(command, ["revoke", "ann", *where])
    assert [(one["action"], one["key"]) for one in lines(file)] == [
        ("key made", "ann"),
        ("key rotated", "ann"),
        ("key revoked", "ann"),
    ]
    assert all(one["who"] and one["time"] for one in lines(file))
    assert made["secret"] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_requests(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    body = {"messages": [{"role": "user", "content": "something secret"}], "max_tokens": 4}
    key = Key(name="ann", hash=hash_of("sesame"), requests_per_minute=1, models=("tiny",))
    with (
        replaying(
            {"a": "Hello."}, people=[key], store=str(tmp_path / "s.db"), observers=[AuditObserver(Audit(file))]
        ) as up,
        httpx.Client(base_url=up.url, headers={"authorization": "Bearer sesame"}, timeout=SAFETY) as client,
    ):
        line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
        upload = {"file": ("lines.jsonl", json.dumps(line).encode())}
        batch = client.post("/v1/files", data={"purpose": "batch"}, files=upload).json()["id"]
        asked = {"input_file_id": batch, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        assert client.post("/v1/batches", json=asked).status_code == 200
        client.post("/v1/chat/completions", json=body)
        client.post("/v1/chat/completions", json=body)
        client.get("/v1/models/something-secret", headers={"authorization": "Bearer something secret"})
        until(lambda: len(lines(file)) == 3)
    told = [(one["action"], one["who"], one.get("cause"), one["route"]) for one in lines(file)]
    assert told == [
        ("batch made", "ann", None, "/v1/batches"),
        ("refused", "ann", "rate_limit_exceeded", "/v1/chat/completions"),
        ("refused", "", "invalid_api_key", "none"),
    ]
    assert "secret" not in file.read_text()


def test_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    before = Settings(audit_log=file, api_key=[SecretStr("one")])
    after = before.model_copy(update={"api_key": [SecretStr("other")]})
    Reloading(before, lambda: after, lambda _: None, OF_A_SERVER).reload()
    (told,) = lines(file)
    assert (told["action"], told["who"], told["told"]) == ("settings read anew", "SIGHUP", "1 API keys more, 1 less")


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Audit(tmp_path / "missing" / "audit").note("key made", "root")
    assert "cannot be written" in caplog.text
