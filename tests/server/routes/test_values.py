"""A value of a wrong kind is refused, before anything is made, by the name of the field: in every field of chat
completions, completions, embeddings and messages, however deep it stands.

What is wrong is said by the request itself, which has a value of the right kind in every field (``EITHER``: of another
right kind), and by OpenAI's description where that is at hand (shared test material). ``LENIENT`` are the places where
this server takes more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from support.replay import Replaying, replaying
from support.responses import OPENAI, is_valid
from support.values import Place, at, kind, path, problems

FUNCTION: dict[str, Any] = {
    "name": "f",
    "description": "d",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
CUSTOM = {
    "name": "c",
    "description": "d",
    "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}},
}
TOOLS: list[Any] = [{"type": "function", "function": FUNCTION}, {"type": "custom", "custom": CUSTOM}]
MESSAGES: list[Any] = [
    {"role": "system", "content": [{"type": "text", "text": "s"}], "name": "n"},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "n"},
    {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "tool_calls": [
            {"type": "function", "id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"type": "custom", "id": "b", "custom": {"name": "c", "input": "x"}},
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "y"},
    {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "z"}]},
    {"role": "user", "content": "Well?"},
]
SAMPLING: dict[str, Any] = {
    "n": 1,
    "seed": 1,
    "stop": ["q"],
    "stream": False,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 1.0,
    "top_p": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "logit_bias": {"1": 1.0},
    "user": "u",
    "max_tokens": 5,
    # vLLM's
    "top_k": 1,
    "min_p": 0.1,
    "repetition_penalty": 1.0,
    "stop_token_ids": [1],
    "include_stop_str_in_output": False,
    "ignore_eos": False,
    "min_tokens": 0,
    "skip_special_tokens": True,
    "bad_words": ["q"],
    "allowed_token_ids": [5],
    "truncate_prompt_tokens": 100,
    "truncation_side": "left",
    "structured_outputs": {"regex": "a+"},
    "guided_choice": ["a"],
    "return_token_ids": False,
    "priority": 1,
    "cache_salt": "s",
    "request_id": "r",
}
CHAT: dict[str, Any] = {
    **SAMPLING,
    "messages": MESSAGES,
    "max_completion_tokens": 5,
    "logprobs": True,
    "top_logprobs": 1,
    "tools": TOOLS,
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
    },
    "functions": [FUNCTION],
    "function_call": {"name": "f"},
    "parallel_tool_calls": True,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "description": "d", "schema": {"type": "object"}, "strict": False},
    },
    "reasoning_effort": "low",
    "metadata": {"a": "b"},
    "store": False,
    "service_tier": "auto",
    "modalities": ["text"],
    "prediction": {"type": "content", "content": "x"},
    "verbosity": "low",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "include_reasoning": True,
    "echo": False,
    "add_generation_prompt": True,
    "continue_final_message": False,
    "chat_template_kwargs": {},
    "documents": [{"text": "d"}],
}
COMPLETION: dict[str, Any] = {**SAMPLING, "prompt": "Hi", "echo": False, "best_of": 1, "logprobs": 1}
EMBEDDING: dict[str, Any] = {"input": ["Hi"], "encoding_format": "float", "dimensions": 4, "user": "u"}
MESSAGE: dict[str, Any] = {
    "max_tokens": 5,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "text", "text": "x"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "a",
                    "is_error": False,
                    "content": [{"type": "text", "text": "y"}],
                }
            ],
        },
    ],
    "system": [{"type": "text", "text": "s"}],
    "stop_sequences": ["q"],
    "stream": False,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 1,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": False}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "metadata": {"user_id": "u"},
    "service_tier": "auto",
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
}


class Api(NamedTuple):
    """``always`` are fields that every request has; ``schema`` is the name of a request in OpenAI's description."""

    path: str
    good: dict[str, Any]
    always: tuple[str, ...]
    schema: str | None = None


APIS = {
    "chat": Api("/v1/chat/completions", CHAT, ("messages",), "CreateChatCompletionRequest"),
    "completions": Api("/v1/completions", COMPLETION, ("prompt",), "CreateCompletionRequest"),
    "embeddings": Api("/v1/embeddings", EMBEDDING, ("input",), "CreateEmbeddingRequest"),
    "messages": Api("/v1/messages", MESSAGE, ("messages", "max_tokens")),
}
SMALL = {
    "messages": [{"role": "user", "content": "Hi"}],
    "prompt": "Hi",
    "input": "Hi",
    "stream": True,
    "max_tokens": 2048,
}
NEEDED = {
    "tool_choice": ["tools"],
    "stream_options": ["stream"],
    "function_call": ["functions"],
    "top_logprobs": ["logprobs"],
}
EITHER = {
    r"stop|input|prompt|system|messages\[\d\](\.content(\[\d\]\.content)?)?|prediction\.content": {"str", "list"},
    r"tool_choice|function_call": {"str", "dict"},
    r"messages\[2\]\.refusal": {"str"},
}
MORE = {r"messages\[2\]\.tool_calls\[0\]\.function\.arguments": {"dict"}}  # right here, though not by the description
LENIENT = {
    r"messages\[\d\]\.role": "of any name: templates know more than the description",
    r"messages\[\d\]\.content(\[\d\])?": "parts may be none, or texts",
    r"messages\[2\]\.tool_calls\[\d\](\.custom)?": "a call of its other kind, or without what it needs, is named",
    r"(messages\[2\]\.tool_calls|tools)\[\d\]\.type": "of any name: there is a new one every month",
    r"stop|temperature|logit_bias.*|max_tokens|functions(\[0\])?|function_call|tool_choice\.allowed_tools\.tools.*": (
        "vLLM's wider bounds, and what means nothing"
    ),
    r"(service_tier|modalities|prediction|verbosity)(\[0\]|\.type|\.content)?": "of any kind: no effect here",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    able = frozenset({"generate", "embed", "logprobs", "constraints"})
    facts: dict[str, Any] = {"tool_parser": "hermes", "reasoning_parser": "qwen3", "embedding_size": 8}
    with replaying({"plain": "{}"}, capabilities=able, **facts) as up:
        yield up


def named(refused: httpx.Response, field: str) -> str | None:
    """The path that a refusal names; Anthropic's have it in their words alone."""
    error = refused.json()["error"]
    found = re.search(rf"\b{field}\b[\w.\[\]]*", error["message"])
    return error["param"] if "param" in error else found and found.group().rstrip(".")


def _either(kinds: dict[str, set[str]], place: Place) -> set[str]:
    return set().union(*(more for pattern, more in kinds.items() if re.fullmatch(pattern, path(place))))


def _is_slow(name: str, field: str) -> bool:
    """Many places, or what chat has too."""
    return field == "messages" or (name == "completions" and field in SAMPLING)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        pytest.param(name, field, marks=[pytest.mark.slow] if _is_slow(name, field) else [])
        for name, api in APIS.items()
        for field in api.good
    ],
)
def test_wrong_kinds_are_refused_by_name(server: Replaying, name: str, field: str) -> None:
    api = APIS[name]
    needed = {"model": "tiny", **{one: SMALL[one] for one in api.always}}
    needed |= {one: SMALL.get(one, api.good.get(one)) for one in NEEDED.get(field, ()) if one in api.good}

    def wrong(body: dict[str, Any], place: Place, value: Any) -> bool:
        if kind(value) in _either(MORE, place):
            return False
        if api.schema is not None and is_valid(OPENAI, api.schema, body) is False:
            return True
        good = at(api.good, place)
        return kind(value) not in {kind(good)} | _either(EITHER, place) or (type(good) is int and value == 2.5)

    with httpx.Client(base_url=server.url, timeout=300) as client:

        def post(body: dict[str, Any]) -> httpx.Response:
            return client.post(api.path, json=body)

        taken = post({**needed, field: api.good[field]})
        assert taken.status_code == 200, taken.text
        found = problems(post, wrong, named, api.good, needed, field, LENIENT)
    assert not found, "\n".join(found)
