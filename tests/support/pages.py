"""What the tests of the pages ask of a server, and what they know of the answers' traces."""

from __future__ import annotations

from typing import Any

import httpx

from portico.engines.replay import Script
from support.generation import tiny_tokenizer
from support.replay import Replaying

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Köln 🐌", "days": 3}}</tool_call>'
HOSTILE = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>{{7*7}}\'">'
MIXED = (  # a bit of all that Markdown has
    "## A part\n\nSome *words* with `code`, [a link](https://example.org) and $a^2 + b^2$.\n\n"
    "- one **bold** thing\n- another\n  - deeper\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n| 3 | 4 |\n\n"
    "```python\ndef f(x):\n    return x + 1\n```\n\n> quoted\n> twice\n\n\\[ \\frac{1}{2} \\]\n\n"
    "1. first\n2. second\n\n"
)
ANSWERS: dict[str, str | Script] = {
    "plain": "Grüße! 🦜 Two <b>words</b>.",
    "call": f"<think>Which city?</think>I look it up.\n\n{CALL}",
    "alarm": "Look: <tool_call>no call",
    "hostile": HOSTILE,
    "markdown": "# H\n\n- [link](https://example.org)\n\n| a |\n|---|\n| $x^2$ |\n\n```python\nx = 1  # one\n```\n",
    "long": "The quick brown fox jumps over the lazy dog. " * 70,
    "fails": Script(tuple(tiny_tokenizer().encode("It begins well")), "error", error="The engine lost it."),
}
PARSERS = {"tool_parser": "hermes", "reasoning_parser": "qwen3"}
CHAT = "/v1/chat/completions"


def ask(server: Replaying, name: str, path: str = CHAT, key: str | None = None, **fields: Any) -> str:
    """Have the answer ``name`` given, streamed; returns the id of its trace."""
    body = {"messages": [{"role": "user", "content": f"[[{name}]]"}], "max_tokens": 9000, "stream": True, **fields}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    response = httpx.post(server.url + path, json=body, headers=headers, timeout=120)
    return str(response.headers["x-portico-trace-id"])


def traced(server: Replaying, trace: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The head and the artifacts of a trace, as the server has them."""
    found = httpx.get(f"{server.url}/inspect/traces/{trace}", timeout=120).json()
    return found["trace"], found["artifacts"]


def reach(artifacts: list[dict[str, Any]], id: int) -> tuple[set[int], set[int]]:
    """The ancestors and the descendants of an artifact."""
    parents = {one["id"]: set(one["of"]) for one in artifacts}
    children = {one: {child for child, of in parents.items() if one in of} for one in parents}

    def walk(links: dict[int, set[int]]) -> set[int]:
        found: set[int] = set()
        waiting = [id]
        while waiting:
            new = links[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    return walk(parents), walk(children)
