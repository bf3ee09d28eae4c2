"""What a request took is freed when it is over, not when the collector comes by, which is seldom."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from portico.generation import Choice, Generation
from portico.parsing import OutputParser
from portico.parsing.machine import Machine
from portico.server.http.connection import Connection
from portico.server.http.exchange import Exchange
from portico.server.line.flight import Flight, Route
from support.raw import raw, request
from support.replay import Replaying, replaying
from support.wait import until

COUNTED = (Connection, Exchange, Flight, Route, Generation, Choice, OutputParser, Machine)
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "b"}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "[[text]]"}]
CALLED: list[dict[str, Any]] = [{"role": "user", "content": "[[call]]"}]
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", {"messages": ASKED, "n": 2}),
    "chat, streamed": ("chat/completions", {"messages": ASKED, "stream": True}),
    "chat, a call": ("chat/completions", {"messages": CALLED, "tools": TOOLS, "stream": True}),
    "completion": ("completions", {"prompt": ["[[text]]", "[[call]]"]}),
    "completion, streamed": ("completions", {"prompt": "[[text]]", "stream": True}),
    "message": ("messages", {"messages": ASKED, "max_tokens": 100}),
    "message, streamed": ("messages", {"messages": ASKED, "max_tokens": 100, "stream": True}),
    "response": ("responses", {"input": "[[text]]", "store": False}),
    "response, streamed": ("responses", {"input": "[[text]]", "store": False, "stream": True}),
    "refused": ("chat/completions", {"messages": "nothing"}),
    "unknown": ("nothing", {}),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    """It is off, and what was there before is not looked at."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def left() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, COUNTED))


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying({"text": "Some words. " * 20, "call": CALL}, tool_parser="hermes") as server:
        yield server


@pytest.mark.parametrize("kind", REQUESTS)
def test_what_a_request_took_is_freed_at_its_end(server: Replaying, no_collector: None, kind: str) -> None:
    path, fields = REQUESTS[kind]
    before = left()
    httpx.post(f"{server.url}/v1/{path}", json={"model": "tiny", **fields})
    until(lambda: left() <= before)


def test_and_when_its_client_goes(no_collector: None) -> None:
    path, fields = REQUESTS["chat, streamed"]
    with replaying({"text": "word " * 1000}, interval=3600, keep_alive=1) as server:
        before = left()
        body = json.dumps({"model": "tiny", **fields}).encode()
        raw(server.url, request("POST", f"/v1/{path}", body), patience=0.2)
        until(lambda: left() <= before)
