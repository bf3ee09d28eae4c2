"""The log of requests: what a line holds, in its three forms, and what it never does."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from rich.console import Console
from rich.logging import RichHandler

from portico.engines.replay import Script
from portico.server.observe.access import AccessLog
from portico.terminal import JsonLogFormatter, LogFormatter, ShortLogFormatter
from support.generation import tiny_tokenizer
from support.replay import Replaying, replaying
from support.server import running_server
from support.wait import SAFETY, until

KEY = "a-secret-key"
ASKED = {"authorization": f"Bearer {KEY}"}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "confidential"}], "max_tokens": 50}
LONG = [{"role": "user", "content": "[[long]]"}]
NEEDED = {"time", "level", "message", "request_id", "method", "path", "route", "status", "outcome", "duration_ms"}


class Lines(logging.Handler):
    """Keeps every record, in each form."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[tuple[dict[str, Any], str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        screen = StringIO()
        terminal = RichHandler(console=Console(file=screen, width=80), show_path=False, log_time_format="[%X]")
        terminal.setFormatter(ShortLogFormatter("%(message)s"))
        terminal.emit(record)
        texts = JsonLogFormatter().format(record), LogFormatter("%(levelname)s %(message)s").format(record)
        assert all("\n" not in text for text in texts)
        self.found.append((json.loads(texts[0]), texts[1], screen.getvalue()))

    def of(self, path: str) -> dict[str, Any]:
        """The one record of a path, once it is there."""
        until(lambda: any(fields.get("path") == path for fields, _, _ in self.found))
        (one,) = [fields for fields, _, _ in self.found if fields.get("path") == path]
        return one


@pytest.fixture
def lines() -> Iterator[Lines]:
    log, kept = logging.getLogger("portico"), Lines()
    level = log.level
    log.addHandler(kept)
    log.setLevel(logging.DEBUG)
    try:
        yield kept
    finally:
        log.removeHandler(kept)
        log.setLevel(level)


@pytest.fixture
def server() -> Iterator[Replaying]:
    answers = {"hello": "Hello there.", "long": Script(tiny_tokenizer().encode("word " * 100_000))}
    with replaying(answers, keys=[KEY], observers=[AccessLog()], names=["tiny", "small"], interval=0.001) as up:
        yield up


def test_an_answer(server: Replaying, lines: Lines) -> None:
    body = {**CHAT, "model": "small"}
    usage = httpx.post(server.url + "/v1/chat/completions", json=body, headers=ASKED).json()["usage"]
    told = lines.of("/v1/chat/completions")
    assert told.keys() >= NEEDED
    assert (told["status"], told["outcome"], told["level"]) == (200, "ok", "info")
    assert (told["model"], told["finish"], told["route"]) == ("small", "stop", "/v1/chat/completions")
    assert (told["tokens_in"], told["tokens_out"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert told["key"] == hashlib.sha256(KEY.encode()).hexdigest()[:8]
    assert 0 < told["first_token_ms"] <= told["duration_ms"] + 5  # two clocks, one of them in whole milliseconds
    assert "client_gone" not in told
    assert "error" not in told


def test_a_client_that_goes(server: Replaying, lines: Lines) -> None:
    body = {"model": "tiny", "messages": LONG, "max_tokens": 500_000, "stream": True}
    with httpx.stream("POST", server.url + "/v1/messages", json=body, headers=ASKED, timeout=SAFETY) as stream:
        next(stream.iter_lines())
    told = lines.of("/v1/messages")
    assert (told["outcome"], told["client_gone"], told["status"]) == ("gone", True, 200)
    assert told["tokens_in"] > 0


def test_others(server: Replaying, lines: Lines) -> None:
    for path in ("/livez", "/readyz", "/health", "/ping"):
        httpx.get(server.url + path)
        assert lines.of(path)["level"] == "debug"
    httpx.get(server.url + "/v1/models", headers={"authorization": "Bearer wrong"})
    told = lines.of("/v1/models")
    assert (told["status"], told["outcome"], told["error"]) == (401, "refused", "invalid_api_key")
    assert "key" not in told
    httpx.get(server.url + "/" + "x" * 300, headers=ASKED)
    assert lines.of("/" + "x" * 300)["route"] == "none"


def test_no_form_tells_a_secret_and_a_terminal_shows_it_in_one_line(server: Replaying, lines: Lines) -> None:
    for path in ("/v1/chat/completions", "/v1/" + "long/" * 40, "/v1/\x1b[2J", "/v1/" + "字" * 70):
        httpx.post(server.url + quote(path), json=CHAT, headers=ASKED)
        lines.of(path)
    httpx.request("DELETE", f"{server.url}/v1/conversations/{'c' * 60}", headers=ASKED)
    lines.of(f"/v1/conversations/{'c' * 60}")
    for fields, text, screen in lines.found:
        for form in (json.dumps(fields), text, screen):
            assert KEY not in form
            assert "confidential" not in form
            assert "\x1b" not in form
        assert screen.count("\n") == 1
        assert len(screen.rstrip()) <= 80


def test_a_server_writes_json(tmp_path: Path, smollm2_path: Path) -> None:
    script = tmp_path / "answers.jsonl"
    script.write_text(json.dumps({"text": "Hello."}) + "\n")
    with running_server(smollm2_path, "--engine", f"replay:{script}", "--json") as server:
        httpx.post(server.base_url + "/chat/completions", json=CHAT, timeout=SAFETY)
        until(lambda: '"path": "/v1/chat/completions"' in server.log())
        logged = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    (ready,) = [one for one in logged if "portico" in one]
    assert ready["url"] == server.base_url
    assert ready["models"][0]["context_length"] > 0
    (told,) = [one for one in logged if one.get("path") == "/v1/chat/completions"]
    assert told.keys() >= NEEDED | {"model", "tokens_in", "tokens_out", "finish", "first_token_ms"}
