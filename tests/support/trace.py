"""What traces are tested with: answers, and the requests that get them."""

from __future__ import annotations

from typing import Any

from portico.engines.replay import Script
from support.generation import tiny_tokenizer

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        },
    },
}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Köln 🐌", "days": 3}}</tool_call>'
ANSWERS = {
    "plain": "Grüße! 🦜 Two <b>words</b>, and a < b.",
    "call": f"<think>Which city?</think>I look it up.\n\n{CALL} \n{CALL}",
    "alarm": "Look: <tool_call>no call at all</tool_call> and <tool_cal",
    "stop": "one two thrEND and more",
    "fails": Script(tuple(tiny_tokenizer().encode("It begins well")), "error", error="The engine lost it."),
}
CHAT = "/v1/chat/completions"

REQUESTS = [
    ("plain", {}),
    ("plain", {"n": 3}),
    ("plain", {"logprobs": True, "top_logprobs": 2, "return_token_ids": True}),
    ("plain", {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
    ("call", {"tools": [WEATHER]}),
    ("call", {"tools": [WEATHER], "include_reasoning": False}),
    ("alarm", {"tools": [WEATHER]}),
    ("stop", {"stop": ["END", "two thrE!"]}),
    ("fails", {}),
]


def asking(name: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": f"[[{name}]]"}], "max_tokens": 400, **more}
