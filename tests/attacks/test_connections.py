"""Clients that hold things back, or send to several workers at once, keep nobody out and get no more than is theirs."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from support.attacks import CHAT, serves
from support.raw import request
from support.server import running_server


@pytest.mark.parametrize("clients", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_bodies_without_their_last_bytes(smollm2_path: Path, tmp_path: Path, clients: int) -> None:
    """More of them than there are places."""
    recorded = tmp_path / "answers.jsonl"
    recorded.write_text(json.dumps({"text": "hello"}) + "\n")
    flags = ("--engine", f"replay:{recorded}", "--max-in-flight", str(clients // 2), "--log-level", "error")
    with running_server("smollm2", *flags) as up, ExitStack() as open_:
        where = urlsplit(up.url)
        for _ in range(clients):
            client = open_.enter_context(socket.create_connection((where.hostname, where.port)))
            client.sendall(request("POST", CHAT, headers=[("Content-Length", "200000")]) + b" " * 100_000)
        for _ in range(5):
            assert serves(up.url)


@pytest.mark.slow
def test_one_key_at_several_workers(smollm2_path: Path, tmp_path: Path) -> None:
    """Two at a time over all of them: however the connections fall, the third is told to wait."""
    recorded = tmp_path / "answers.jsonl"
    recorded.write_text(json.dumps({"text": "a long story " * 500}) + "\n")
    flags = ("--engine", f"replay:{recorded}", "--replay-rate", "5", "--workers", "2", "--max-per-key", "2")
    body = {"model": "smollm2", "stream": True, "messages": [{"role": "user", "content": "hi"}]}

    def ask(url: str, opened: ExitStack) -> int:
        client = opened.enter_context(httpx.Client(timeout=120))
        stream = client.stream("POST", url + CHAT, json=body, headers={"x-api-key": "one"})
        return opened.enter_context(stream).status_code

    with (
        running_server("smollm2", *flags, "--log-level", "error", env={"PORTICO_API_KEY": "one,two"}) as up,
        ExitStack() as opened,
        ThreadPoolExecutor(8) as pool,
    ):
        statuses = sorted(pool.map(lambda _: ask(up.url, opened), range(12)))
        assert statuses == [200, 200, *[429] * 10]
        opened.close()
