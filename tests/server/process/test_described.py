"""``--tool-parser hf``: a checkpoint whose tokenizer says how its answers are written, served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.server import RunningServer, running_server
from support.tiny_models import write

FUNCTION = {"name": "{name}", "arguments": "{arguments}"}
DESCRIBED = {
    "start_anchor": "<turn>",
    "defaults": {"role": "assistant"},
    "fields": {
        "thinking": {"open": "<hm>", "close": "</hm>"},
        "content": {},
        "tool_calls": {
            "open": "<do>",
            "close": "</do>",
            "content": "python-call-list",
            "transform_each": True,
            "transform": {"type": "function", "function": FUNCTION},
        },
    },
}
TEMPLATE = "{% for m in messages %}<user>{{ m.content }}{% endfor %}<turn>"
DAYS = {"type": "integer", "minimum": 0, "maximum": 9}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"days": DAYS, "city": {"enum": ["Oslo", "Rom"]}},
            "required": ["days", "city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights whose tokenizer's settings describe its output."""
    directory = tmp_path_factory.mktemp("described")
    (directory / "tokenizer_config.json").write_text(json.dumps({"response_template": DESCRIBED}))
    (directory / "template.jinja").write_text(TEMPLATE)
    return write("llama", directory / "tiny.gguf")


def serving(checkpoint: Path, *more: str) -> Iterator[RunningServer]:
    template = checkpoint.with_name("template.jinja")
    with running_server(checkpoint, "--chat-template", template, "--log-level", "warning", *more) as running:
        yield running


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[RunningServer]:
    yield from serving(checkpoint, "--tool-parser", "hf", "--reasoning-parser", "hf")


@pytest.fixture(scope="module")
def replaying(checkpoint: Path) -> Iterator[RunningServer]:
    """The same checkpoint, its answer known; the parsers are found."""
    answer = checkpoint.with_name("answers.jsonl")
    answer.write_text(json.dumps({"text": "<hm>Rom?</hm>Well. <do>[get_weather(days=3, city='Rom')]</do>"}) + "\n")
    yield from serving(checkpoint, "--engine", f"replay:{answer}")


def answered(server: RunningServer, stream: bool, **fields: Any) -> tuple[dict[str, Any], str]:
    """The message and the finish reason."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL], "stream": stream, **fields}
    reply = httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=600)
    assert reply.status_code == 200, reply.text
    if not stream:
        choice = reply.json()["choices"][0]
        return choice["message"], choice["finish_reason"]
    found: dict[str, Any] = {"role": "assistant", "content": None}
    finish = ""
    for line in reply.text.splitlines():
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            finish = choice["finish_reason"] or finish
            delta = choice["delta"]
            for key in ("content", "reasoning"):
                if delta.get(key):
                    found[key] = (found.get(key) or "") + delta[key]
            for call in delta.get("tool_calls") or ():
                known = found.setdefault("tool_calls", [{"function": {"name": "", "arguments": ""}}])[0]["function"]
                for key in known:
                    known[key] += call["function"].get(key) or ""
    return found, finish


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_read(replaying: RunningServer, stream: bool) -> None:
    message, finish = answered(replaying, stream, include_reasoning=True)
    assert (message["reasoning"], message["content"], finish) == ("Rom?", "Well.", "tool_calls")
    [call] = message["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"days": 3, "city": "Rom"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_is_forced(server: RunningServer, choice: Any, stream: bool) -> None:
    fields = {"tool_choice": choice, "parallel_tool_calls": False, "thinking_token_budget": 0}
    message, finish = answered(server, stream, **fields)
    assert not message["content"]
    assert finish == ("tool_calls" if choice == "required" else "stop")
    [call] = message["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    arguments = json.loads(call["function"]["arguments"])
    assert set(arguments) == {"days", "city"}
    assert arguments["days"] in range(10)


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_call_that_is_cut_shows_nothing_of_its_framing(server: RunningServer, stream: bool) -> None:
    message, finish = answered(server, stream, tool_choice="required", max_tokens=3, thinking_token_budget=0)
    assert (message["content"], message.get("tool_calls"), finish) == (None, None, "length")


def test_a_description_that_is_wrong_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"response_template": {"fields": {}}}))
    (tmp_path / "template.jinja").write_text(TEMPLATE)
    checkpoint = write("llama", tmp_path / "tiny.gguf")
    with pytest.raises(AssertionError, match="no 'fields'"):
        next(serving(checkpoint, "--tool-parser", "hf"))
