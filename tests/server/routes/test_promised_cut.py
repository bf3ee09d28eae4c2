"""An answer that had to be a call and was cut inside the call's framing: no protocol shows a piece of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.replay import Replaying, replaying

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rom"}}\n</tool_call>'  # a token is a byte
FRAMING = (3, 11, 12, 20, 40)  # tokens: in the opener, behind it, in the header, in the name
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "get_weather", "parameters": SCHEMA}
MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT = {"messages": MESSAGES, "tools": [{"type": "function", "function": FUNCTION}]}
RESPONSES = {"input": "Hi", "tools": [{"type": "function", **FUNCTION}]}
ANTHROPIC = {"messages": MESSAGES, "tools": [{"name": "get_weather", "input_schema": SCHEMA}]}
# route, body, the field of the limit
ASKED: list[tuple[str, dict[str, Any], str]] = [
    ("chat/completions", {**CHAT, "tool_choice": "required"}, "max_tokens"),
    (
        "chat/completions",
        {**CHAT, "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        "max_tokens",
    ),
    ("responses", {**RESPONSES, "tool_choice": "required"}, "max_output_tokens"),
    ("responses", {**RESPONSES, "tool_choice": {"type": "function", "name": "get_weather"}}, "max_output_tokens"),
    ("messages", {**ANTHROPIC, "tool_choice": {"type": "any"}}, "max_tokens"),
    ("messages", {**ANTHROPIC, "tool_choice": {"type": "tool", "name": "get_weather"}}, "max_tokens"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying({"call": CALL}, tool_parser="hermes") as running:
        yield running


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def said(route: str, reply: str, stream: bool) -> tuple[str | None, str]:
    """The text that the client gets, None where none is there, and the reason why it ended."""
    if route == "chat/completions":
        if not stream:
            choice = json.loads(reply)["choices"][0]
            return choice["message"]["content"], choice["finish_reason"]
        choices = [choice for chunk in events(reply) for choice in chunk["choices"]]
        texts = [text for choice in choices if (text := choice["delta"].get("content")) is not None]
        return "".join(texts) if texts else None, choices[-1]["finish_reason"]
    if route == "messages":
        if not stream:
            message = json.loads(reply)
            return "".join(block["text"] for block in message["content"]) if message["content"] else None, message[
                "stop_reason"
            ]
        found = events(reply)
        starts = [event for event in found if event["type"] == "content_block_start"]
        return json.dumps(starts) if starts else None, next(
            event["delta"]["stop_reason"] for event in found if event["type"] == "message_delta"
        )
    response = json.loads(reply) if not stream else events(reply)[-1]["response"]
    texts = [event["type"] for event in events(reply) if "output_text" in event["type"]] if stream else []
    items = json.dumps(response["output"]) if response["output"] or texts else None
    return items, response["incomplete_details"]["reason"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("route", "body", "limit"), ASKED)
def test_a_cut_framing_is_no_content(
    server: Replaying, route: str, body: dict[str, Any], limit: str, stream: bool
) -> None:
    for tokens in FRAMING:
        asked = {"model": "tiny", **body, limit: tokens, "stream": stream}
        reply = httpx.post(f"{server.url}/v1/{route}", json=asked, timeout=120)
        assert reply.status_code == 200, reply.text
        text, reason = said(route, reply.text, stream)
        assert (text, reason) == (None, "length" if route == "chat/completions" else limit), tokens
