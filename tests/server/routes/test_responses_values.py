"""What the description of the Responses API refuses is refused, before anything is made, by the name of the field; and
what it takes is taken.

A request that says something in every field is changed at every place of it, into values of every kind; whether each
is one is the description's word. ``LENIENT`` are the places where this server takes more, each with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.replay import Replaying, replaying
from support.responses import OPENAI, is_valid
from support.sockets import BEARER, KEY, Socket
from support.values import Place, problems

FUNCTION = {
    "type": "function",
    "name": "f",
    "description": "d",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
TOOLS: list[Any] = [
    FUNCTION,
    {
        "type": "custom",
        "name": "c",
        "description": "d",
        "format": {"type": "grammar", "syntax": "regex", "definition": "a+"},
    },
    {"type": "namespace", "name": "n", "description": "d", "tools": [{**FUNCTION, "name": "g"}]},
]
INPUT: list[Any] = [
    {"role": "user", "content": "Hi"},
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "phase": "commentary",
        "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}],
    },
    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}", "status": "completed"},
    {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "out"}]},
    {"type": "custom_tool_call", "call_id": "b", "name": "c", "input": "x"},
    {"type": "custom_tool_call_output", "call_id": "b", "output": "y"},
    {"role": "user", "content": "Well?"},
]
GOOD: dict[str, Any] = {
    "input": INPUT,
    "instructions": "Be brief.",
    "previous_response_id": None,
    "store": False,
    "background": False,
    "stream": False,
    "stream_options": {"include_obfuscation": False},
    "max_output_tokens": 20,
    "max_tool_calls": 3,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_logprobs": 2,
    "text": {
        "format": {
            "type": "json_schema",
            "name": "a",
            "schema": {"type": "object"},
            "strict": False,
            "description": "d",
        },
        "verbosity": "low",
    },
    "reasoning": {"effort": "low", "summary": "auto", "context": "auto", "generate_summary": "auto"},
    "tools": TOOLS,
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "parallel_tool_calls": True,
    "include": ["message.output_text.logprobs"],
    "truncation": "auto",
    "context_management": [{"type": "compaction", "compact_threshold": 100_000}],
    "metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "service_tier": "auto",
    "user": "u",
}
LENIENT = {
    r"(prompt_cache_options|prompt_cache_retention|service_tier)\b.*": "text of any kind: it has no effect here",
    r"(input|tools)\[\d+\](\.tools\[\d+\])?\.type": "there is a new one every month: left out and told",
    r"input\[\d+\]\.call_id": "what it calls has no output any more, which is named",
    r"input\[\d+\]\.(status|phase)": "text of any kind: it is given back",
    r"input\[\d+\]\.(content|output)(\[\d+\](\.type)?)?": "parts may be none, texts, or of a new kind that has text",
    r".*\.(annotations|logprobs)": "what they hold is given back",
    r"input\[\d+\]\.arguments": "an object as it is",
    r"tools\[2\]\.tools(\[0\]\.name)?": "none, and names of any spelling",
}
WRONG: list[tuple[str, dict[str, Any]]] = [  # what the description says in words, or not at all
    ("include[0]", {"include": ["nope"]}),
    ("reasoning.mode", {"reasoning": {"mode": "nope"}}),
    ("context_management[0].type", {"context_management": [{"type": "nope"}]}),
    ("text.format.name", {"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}),
    ("text.format.name", {"text": {"format": {"type": "json_schema", "name": "a" * 65, "schema": {}}}}),
    ("temperature", {"temperature": 2.5}),
    ("tool_choice.type", {"tools": TOOLS, "tool_choice": {"type": {}}}),
    ("tools[0].type", {"tools": [{**FUNCTION, "type": {}}]}),
    ("tools[0].tools[0].type", {"tools": [{**TOOLS[2], "tools": [{**FUNCTION, "type": []}]}]}),
    ("tools[0].strict", {"tools": [{**FUNCTION, "strict": "yes"}]}),
    ("tools[0].description", {"tools": [{**FUNCTION, "description": 1}]}),
    ("input[0].type", {"input": [{**INPUT[0], "type": 7}]}),
    ("input[0].status", {"input": [{**INPUT[0], "status": 7}]}),
    ("tools[0].tools[0].parameters", {"tools": [{**TOOLS[2], "tools": [{**FUNCTION, "parameters": []}]}]}),
    ("input[0].content[0].type", {"input": [{"role": "assistant", "content": [{"type": 7, "text": "x"}]}, INPUT[0]]}),
    ("input[0].content", {"input": [{"role": "assistant", "content": 7}, INPUT[0]]}),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying({"plain": "{}"}, keys=[KEY], tool_parser="hermes") as up:
        yield up


@pytest.mark.parametrize(
    "field", [pytest.param(name, marks=pytest.mark.slow) if name in ("input", "tools") else name for name in GOOD]
)
def test_the_description_decides(server: Replaying, field: str) -> None:
    if is_valid(OPENAI, "CreateResponse", {"model": "tiny", "input": "Hi"}) is None:
        pytest.skip("the description is not at hand (PORTICO_SHARED)")
    needed = {"model": "tiny", "input": "Hi"}
    needed |= {name: GOOD[name] for name in {"tool_choice": ["tools"], "stream_options": ["stream"]}.get(field, ())}
    with httpx.Client(base_url=server.url, headers=BEARER, timeout=300) as client:

        def post(body: dict[str, Any]) -> httpx.Response:
            return client.post("/v1/responses", json=body)

        def wrong(body: dict[str, Any], place: Place, value: Any) -> bool:
            return not is_valid(OPENAI, "CreateResponse", body)

        def named(refused: httpx.Response, field: str) -> str | None:
            return refused.json()["error"]["param"]  # type: ignore[no-any-return]

        assert post({**needed, **{name: GOOD[name] for name in (field, "tools")}}).status_code == 200
        found = problems(post, wrong, named, GOOD, needed, field, LENIENT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("param", "fields"), WRONG)
def test_refusals_name_the_field(server: Replaying, param: str, fields: dict[str, Any]) -> None:
    for more in ({}, {"stream": True}):
        body = {"model": "tiny", "input": "Hi", **fields, **more}
        refused = httpx.post(f"{server.url}/v1/responses", json=body, headers=BEARER, timeout=300)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    with Socket(server.url) as socket:
        socket.say(**{"given": "Hi", **{"given" if name == "input" else name: value for name, value in fields.items()}})
        told = socket.hear()
        assert (told["type"], told["status"], told["error"]["param"]) == ("error", 400, param)
