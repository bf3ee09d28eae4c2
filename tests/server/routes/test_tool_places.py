"""An error about a tool names its place in the client's own list, also behind tools that nobody here runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.replay import replaying

SCHEMA = {"type": "object", "properties": {}}
UNHELD = {"type": "object", "properties": {"x": {"type": "string", "pattern": r"(?=a)b"}}, "required": ["x"]}
ASKED = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with replaying({"a": "Hello"}, tool_parser="hermes") as server:
        yield server.url


def function(name: object, schema: object = SCHEMA, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema, **more}}


NAMELESS = [{"type": "web_search"}, function("good"), {"type": "mcp"}, function(5)]
UNHOLDABLE = [{"type": "web_search"}, function("good"), function("bad", UNHELD, strict=True)]


@pytest.mark.parametrize(
    ("path", "tools", "place"),
    [
        ("/v1/chat/completions", NAMELESS, "tools[3]"),
        ("/v1/chat/completions/render", NAMELESS, "tools[3]"),
        ("/v1/chat/completions", UNHOLDABLE, "tools[2]"),
        ("/v1/chat/completions/render", UNHOLDABLE, "tools[2]"),
    ],
)
def test_behind_a_hosted_tool(url: str, path: str, tools: list[Any], place: str) -> None:
    answer = httpx.post(url + path, json={**ASKED, "tools": tools})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(place)
    assert place in answer.json()["error"]["message"]


@pytest.mark.parametrize("strict", [True, False])
def test_in_the_words_of_the_responses_api(url: str, strict: bool) -> None:
    tools = [{"type": "web_search"}, {"type": "function", "name": "bad", "parameters": UNHELD, "strict": strict}]
    answer_format = {"type": "json_schema", "name": "x", "schema": UNHELD, "strict": strict}
    for fields, place in (
        ({"tools": tools, "tool_choice": "required"}, "tools[1].parameters"),
        ({"text": {"format": answer_format}}, "text.format.schema"),
    ):
        answer = httpx.post(url + "/v1/responses", json={"model": "tiny", "input": "Hi", **fields})
        if strict:
            assert answer.json()["error"]["param"] == place
        else:
            assert f"not enforced: pattern of x in {place}" in answer.headers["x-portico-warning"]


def test_behind_a_server_tool_of_the_messages_api(url: str) -> None:
    tools = [
        {"type": "web_search_20250305", "name": "web_search"},
        {"name": "good", "input_schema": SCHEMA},
        {"name": "bad", "input_schema": UNHELD, "strict": True},
    ]
    answer = httpx.post(url + "/v1/messages", json={**ASKED, "model": "tiny", "tools": tools})
    assert answer.status_code == 400
    assert "tools[2]" in answer.json()["error"]["message"]
