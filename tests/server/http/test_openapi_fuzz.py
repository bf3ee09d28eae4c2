"""Whatever is sent, nothing breaks: no 5xx, and every answer is one that the server's own OpenAPI document describes.

Two ways to find what nobody thought of: Schemathesis makes requests from the document, legal and almost legal ones;
and plausible bodies have parts of them replaced by something odd. The engine replays, so that the front door is tested.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.effort import examples
from support.raw import raw, request
from support.replay import Replaying, replaying

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
ODD_BODIES = examples(150)
ANSWERS = {
    "call": '<think>hm</think><tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call> and more',
    "plain": "It is sunny. ☀️",
}
quietly = settings(database=None, suppress_health_check=list(HealthCheck), print_blob=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    with replaying(
        ANSWERS,
        store=str(tmp_path_factory.mktemp("store") / "portico.db"),
        tool_parser="hermes",
        reasoning_parser="qwen3",
        context_length=2_000,
        embedding_size=8,
        checked=True,
        capabilities=frozenset({"generate", "logprobs", "logprob_ids", "prompt_logprobs", "embed", "constraints"}),
    ) as up:
        yield up


TEXT = {"type": "string", "maxLength": 20}
TOOL = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": TEXT, "parameters": {"type": "object"}, "strict": {"type": "boolean"}},
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
}
MESSAGE = {
    "type": "object",
    "properties": {"role": {"enum": ["user", "system", "assistant", "tool"]}, "content": TEXT},
    "required": ["role", "content"],
}


def document(url: str, *, narrow: bool = False) -> dict[str, Any]:
    """The server's document. Where legal data is wanted, messages and tools are narrowed to what is likely to get
    through: they are described as loosely as they are taken, and most of that is refused at the first glance."""
    found: dict[str, Any] = httpx.get(url + "/openapi.json").json()
    if not narrow:
        return found
    for name, schema in found["components"]["schemas"].items():
        properties = schema.get("properties", {})
        if "messages" in properties:
            properties["messages"] = {"type": "array", "items": MESSAGE, "minItems": 1, "maxItems": 3}
        if "tools" in properties and not name.startswith(("Messages", "CountTokens")):
            properties["tools"] = {"type": "array", "items": TOOL, "minItems": 1, "maxItems": 2}
        if "model" in properties:
            properties["model"] = {"const": "tiny"}
    return found


@cache
def described(url: str, kind: str) -> dict[str, Any]:
    """Schemathesis's operations of the server's document."""
    schema = schemathesis.openapi.from_dict(document(url, narrow=kind == "positive"))
    return {one.ok().label: one.ok() for one in schema.get_all_operations()}


def operations() -> list[str]:
    from portico.server.routes.paths import BODIES

    return sorted(f"{method} {path}" for path, method in BODIES)


@pytest.mark.parametrize("label", operations())
@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_by_the_document(server: Replaying, label: str, kind: str) -> None:
    operation = described(server.url, kind)[label]
    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(kind))
    statuses: Counter[int] = Counter()

    @settings(quietly, max_examples=examples(5))
    @given(cases)
    def run(case: Any) -> None:
        response = case.call(base_url=server.url, timeout=120)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    run()
    assert statuses


def test_the_rest_of_the_document(server: Replaying) -> None:
    """Every path that takes no body; and every path with every method that it does not take."""
    for path, methods in document(server.url)["paths"].items():
        target = path.replace("{model}", "tiny")
        for method in ("get", "post", "put", "patch", "delete", "options", "trace"):
            if method in methods and "requestBody" in methods[method]:
                continue
            response = httpx.request(method.upper(), server.url + target)
            there = 404 if "{" in target else 200  # nothing of such an id is here
            there = 400 if target.endswith("/unload") else there  # this model stays loaded
            assert response.status_code == (there if method in methods else 405), (method, path)
            if method not in methods:
                assert {one.strip().lower() for one in response.headers["allow"].split(",")} == set(methods)
                assert set(response.json()["error"]) >= {"message", "type"}


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}
CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
PLAUSIBLE: list[tuple[str, dict[str, Any]]] = [
    (
        "/v1/chat/completions",
        {
            "model": "tiny",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": [{"type": "text", "text": "[[call]]"}]},
                {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [CALLED]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
                {"role": "assistant", "content": "so"},
            ],
            "tools": [FUNCTION],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "max_tokens": 8,
            "n": 2,
            "logprobs": True,
            "top_logprobs": 2,
            "stop": ["END"],
            "chat_template_kwargs": {"enable_thinking": False},
            "return_token_ids": True,
        },
    ),
    (
        "/v1/chat/completions",
        {
            "messages": [message("[[plain]]")],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
            "logit_bias": {"5": 1.5},
            "temperature": 0.5,
            "top_p": 0.5,
            "seed": 1,
            "max_completion_tokens": 8,
            "reasoning_effort": "low",
            "continue_final_message": False,
            "prompt_logprobs": 1,
            "allowed_token_ids": [5, 6],
            "bad_words": ["x"],
            "stop_token_ids": [7],
            "min_tokens": 2,
        },
    ),
    ("/v1/chat/completions", {"messages": [message("x")], "structured_outputs": {"regex": "[a-z]{1,5}"}, "echo": True}),
    (
        "/v1/chat/completions",
        {"messages": [message("x")], "structured_outputs": {"choice": ["a", "b"]}, "stream": True},
    ),
    ("/v1/chat/completions/render", {"messages": [message("x")], "tools": [FUNCTION], "tool_choice": "required"}),
    (
        "/v1/completions",
        {
            "prompt": ["a", "b"],
            "max_tokens": 8,
            "n": 2,
            "echo": True,
            "logprobs": 2,
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop": "END",
            "return_token_ids": True,
        },
    ),
    ("/v1/completions", {"prompt": [[65, 66], [67]], "max_tokens": 0, "echo": True, "logprobs": 1}),
    (
        "/v1/decisions",
        {
            "input": [
                {"role": "developer", "content": "Be kind."},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "1"}]},
                {"role": "user", "content": [{"type": "input_json", "data": {"a": [1]}}]},
            ],
            "questions": [
                {"type": "predicate", "name": "n", "instructions": "a"},
                {
                    "type": "choice",
                    "instructions": [{"type": "input_text", "text": "b"}],
                    "choices": [{"value": True}, {"value": "x", "description": "d"}],
                },
                {"type": "score", "instructions": "c", "levels": [{"label": "x"}, {"label": "y", "description": "d"}]},
            ],
            "prompt_cache_options": {"mode": "explicit"},
        },
    ),
    ("/v1/completions/render", {"prompt": [65, 66], "structured_outputs": {"json": SCHEMA}}),
    (
        "/v1/embeddings",
        {"input": ["a", "b"], "dimensions": 4, "encoding_format": "base64", "truncate_prompt_tokens": 1},
    ),
    ("/v1/embeddings", {"input": [[65, 66], [67]]}),
    ("/v1/score", {"text_1": "a", "text_2": ["b", "c"]}),
    ("/v1/rerank", {"query": "a", "documents": ["b", {"text": "c"}], "top_n": 1, "return_documents": False}),
    ("/tokenize", {"messages": [message("x")], "tools": [FUNCTION], "return_token_strs": True}),
    ("/tokenize", {"prompt": "x", "add_special_tokens": False}),
    ("/detokenize", {"tokens": [65, 66, 257], "skip_special_tokens": True}),
    (
        "/v1/messages",
        {
            "model": "tiny",
            "max_tokens": 8,
            "system": [{"type": "text", "text": "Be kind."}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "[[call]]"}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "1"}]},
            ],
            "tools": [{"name": "f", "input_schema": SCHEMA}],
            "tool_choice": {"type": "any"},
            "stream": True,
        },
    ),
]

SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([-(2**63), 2**31, 2**63, 2**64, 10**40, -1e308, 1e308, 5e-324, 0.5, -0.0])
    | st.sampled_from(
        ["", " ", "\0", "\ud800", "\N{PARROT}", "a" * 3000, "user", "function", "object", "auto", "[[call]]"]
    )
    | st.sampled_from(["{{ 7 * 7 }}", "{% for x in range(9**9) %}{% endfor %}", "<tool_call>", "<think>", "<|end|>"])
    | st.text(max_size=6)
)
ODD = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "text", "name", "$ref", "anyOf", "items", "", "a"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything inside a JSON value."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


@st.composite
def odd_requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    path, body = draw(st.sampled_from(PLAUSIBLE))
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.sampled_from(sorted(places(body), key=repr)))
        holder: Any = body
        for key in where[:-1]:
            holder = holder[key]
        act = draw(st.sampled_from(["replace", "replace", "remove", "repeat", "nest", *["add"] * 4]))
        if act == "add":  # most objects may have members that nobody knows: enough bodies get further than validation
            (holder if isinstance(holder, dict) else body)["x-odd"] = draw(ODD)
        elif act == "remove":
            del holder[where[-1]]
            if not body:
                return path, body
        elif act == "repeat" and isinstance(holder, list):
            holder += [copy.deepcopy(holder[where[-1]])] * draw(st.integers(1, 30))
        elif act == "nest":
            for _ in range(draw(st.sampled_from([1, 3, 90]))):
                holder[where[-1]] = draw(st.sampled_from([[holder[where[-1]]], {"items": holder[where[-1]]}]))
        else:
            holder[where[-1]] = draw(ODD)
    return path, body


def test_plausible_bodies_are_served(server: Replaying) -> None:
    """What the next test starts from does get through, so that it reaches more than validation."""
    for path, body in PLAUSIBLE:
        response = httpx.post(server.url + path, json=body, timeout=120)
        assert response.status_code == 200, (path, body, response.text)


def test_odd_bodies(server: Replaying) -> None:
    statuses: Counter[int] = Counter()

    @settings(quietly, max_examples=ODD_BODIES)
    @given(odd_requests(), st.sampled_from([None, True, False]))
    def run(asked: tuple[str, dict[str, Any]], stream: bool | None) -> None:
        path, body = asked
        if stream is not None and "stream" in body:
            body = {**body, "stream": stream}
        content = json.dumps(body).encode()
        response = http.post(server.url + path, content=content, headers={"content-type": "application/json"})
        statuses[response.status_code] += 1
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert len(response.content) < 2048
            error = response.json()["error"]
            assert error["message"]
            assert "Traceback" not in error["message"]
        elif response.headers["content-type"].startswith("text/event-stream"):
            assert b'"error"' not in response.content, response.text
            assert response.content.endswith(b"data: [DONE]\n\n" if path != "/v1/messages" else b"\n\n")

    with httpx.Client(timeout=120) as http:
        run()
    assert statuses[200] > ODD_BODIES // 20, statuses


@settings(quietly, max_examples=examples(60))
@given(st.binary(max_size=80), st.binary(max_size=40))
def test_odd_bytes(fuzzed: str, head: bytes, body: bytes) -> None:
    """Bytes where a head or a body should be: an answer or a closed connection, never a server error."""
    for data in (
        head + b"\r\n\r\n",
        b"GET /" + head.replace(b"\n", b"") + b" HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nConnection: close\r\nX: " + head.replace(b"\n", b"") + b"\r\n\r\n",
        request("POST", "/v1/completions", body, [("Content-Type", "application/json"), ("Connection", "close")]),
    ):
        answer = raw(fuzzed, data, end=True)
        assert all(status < 500 for status in answer.statuses), answer.data


@pytest.fixture(scope="module")
def fuzzed(server: Replaying) -> str:
    return server.url
