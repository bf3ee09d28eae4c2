"""The law of replays: what was recorded comes again, byte for byte; and what has changed shows at its layer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from portico.server.rerun import Means, rerun
from portico.trace import Difference, Export, first_difference, read_export
from support_generation import tiny_tokenizer
from support_replay import Replaying, replaying
from support_trace import ANSWERS, CHAT, REQUESTS, WEATHER, asking

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, inspect=True, tool_parser="hermes", reasoning_parser="qwen3") as up:
        yield up


def export_of(server: Replaying, path: str, body: Any, headers: dict[str, str] | None = None) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(server.url + path, content=content, headers={**JSON, **(headers or {})}, timeout=30)
    return httpx.get(f"{server.url}/inspect/traces/{response.headers['x-portico-trace-id']}").content


def replayed(data: bytes | Export, means: Means | None = None) -> tuple[Export, Export, Difference | None]:
    recorded = read_export(data) if isinstance(data, bytes) else data
    again = asyncio.run(rerun(recorded, means))
    return recorded, again, first_difference(recorded, again)


def assert_identical(data: bytes) -> None:
    for means in (None, Means(tokenizer=tiny_tokenizer())):
        recorded, again, difference = replayed(data, means)
        assert difference is None, difference
        assert again.trace.error == recorded.trace.error
        for kind in ("text", "event", "held"):
            assert len(again.of_kind(kind)) == len(recorded.of_kind(kind))


class TestIdentical:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(("name", "more"), REQUESTS)
    def test_chat(self, server: Replaying, name: str, more: dict[str, Any], stream: bool) -> None:
        if not stream:
            more = {key: value for key, value in more.items() if key != "stream_options"}
        assert_identical(export_of(server, CHAT, asking(name, stream=stream, **more)))

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("name", list(ANSWERS))
    def test_messages(self, server: Replaying, name: str, stream: bool) -> None:
        tools = [{"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}]
        assert_identical(export_of(server, "/v1/messages", asking(name, stream=stream, tools=tools)))
