"""What is over a limit is refused, with the right status, a code, and one shape of body; also on a raw socket."""

from __future__ import annotations

import concurrent.futures
import json
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from portico.engines.replay import Script
from portico.errors import MAX_MESSAGE, BadRequestError
from portico.generation import Limits
from portico.protocols.openai import errors
from portico.server.http import connection
from support.raw import Answer, raw, request
from support.replay import Replaying, replaying
from support.server import RunningServer, running_server
from support.wait import until

KEY = "sesame"
BEARER = ("Authorization", f"Bearer {KEY}")
JSON_TYPE = ("Content-Type", "application/json")
CLOSE = ("Connection", "close")
ANSWERS = {
    "plain": "It is sunny.",
    "slow": "a long story " * 2000,  # outlasts every test at any pace
    "fails": Script(list(range(65, 90)), finish_reason="error", error="The GPU is on fire."),
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CHAT = "/v1/chat/completions"
LONG = json.dumps({"input": ["x"] * 200}).encode()
LONG_ANSWER = 8_000_000  # bytes at least; more than a connection's buffers hold


def ask(text: str = "[[plain]]", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def post(url: str, body: Any, path: str = CHAT, key: str | None = KEY, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return httpx.post(url + path, content=content, headers={"content-type": "application/json", **headers}, timeout=120)


def assert_error(answer: Any, code: str | None = None) -> None:
    """OpenAI's error body, in every respect that clients rely on."""
    assert set(answer) == {"error"}
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    assert len(json.dumps(answer, ensure_ascii=False).encode()) < 2048
    if code is not None:
        assert error["code"] == code


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    return schema


def structured(depth: int) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": nested(depth)}}


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(
        ANSWERS,
        keys=[KEY, "open"],
        max_body=20_000,
        max_header=8_000,
        client_timeout=1.0,
        max_logprobs=3,
        tool_parser="hermes",
        checked=True,
        limits=Limits(choices=2, stop_strings=2, bad_words=2, tools=2, prompts=2, schema_depth=5),
    ) as up:
        yield up


class TestWhatARequestMayAskFor:
    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"n": 3}, "n"),
            ({"logprobs": True, "top_logprobs": 4}, "top_logprobs"),
            ({"stop": ["a", "b", "c"]}, "stop"),
            ({"bad_words": ["a", "b", "c"]}, "bad_words"),
            ({"tools": [TOOL] * 3}, "tools"),
            ({"response_format": structured(6)}, "response_format"),
            ({"messages": [{"role": "user", "content": "hi"}], "prompt_logprobs": 4}, "prompt_logprobs"),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_chat(self, server: Replaying, change: dict[str, Any], param: str, stream: bool) -> None:
        response = post(server.url, ask(stream=stream, **{**change}) | change)
        assert response.status_code == 400, response.text
        assert_error(response.json())
        assert response.json()["error"]["param"].startswith(param)

    @pytest.mark.parametrize(
        "change",
        [
            {"n": 2},
            {"logprobs": True, "top_logprobs": 3},
            {"stop": ["x", "y"]},
            {"bad_words": ["x", "y"]},
            {"tools": [TOOL] * 2},
            {"response_format": structured(4)},
        ],
    )
    def test_the_limit_itself_is_allowed(self, server: Replaying, change: dict[str, Any]) -> None:
        assert post(server.url, ask(max_tokens=5, **change)).status_code == 200

    def test_prompts(self, server: Replaying) -> None:
        response = post(server.url, {"prompt": ["a", "b", "c"]}, "/v1/completions")
        assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")
        assert post(server.url, {"prompt": ["a", "b"], "max_tokens": 1}, "/v1/completions").status_code == 200

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            *(("/v1/completions", {"prompt": empty}) for empty in ("", [], [""], [[]], ["a", ""], [[65], []])),
            *(("/v1/embeddings", {"input": empty}) for empty in ("", [], [""], [[]], ["a", ""])),
            (CHAT, {"messages": []}),
            ("/v1/rerank", {"query": "", "documents": ["a"]}),
            ("/v1/score", {"text_1": "a", "text_2": []}),
        ],
    )
    def test_nothing_is_too_little(self, empty: Replaying, path: str, body: dict[str, Any]) -> None:
        response = post(empty.url, body, path)
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] in body

    @pytest.fixture(scope="class")
    @staticmethod
    def empty() -> Iterator[Replaying]:
        with replaying(ANSWERS, embedding_size=4, capabilities=frozenset({"generate", "embed"})) as up:
            yield up

    def test_the_context(self) -> None:
        with replaying(ANSWERS, context_length=100) as up:
            response = post(up.url, ask("x" * 200))
            assert response.status_code == 400
            assert_error(response.json(), "context_length_exceeded")


class TestBodies:
    def test_declared_too_large(self, server: Replaying) -> None:
        response = post(server.url, ask("x" * 30_000))
        assert response.status_code == 413
        assert_error(response.json(), "request_too_large")

    def test_too_large_without_a_length(self, server: Replaying) -> None:
        def pieces() -> Iterator[bytes]:
            for _ in range(30):
                yield b" " * 1000

        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        response = httpx.post(server.url + CHAT, content=pieces(), headers=headers, timeout=120)
        assert response.status_code == 413
        assert_error(response.json(), "request_too_large")

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"content-type": "text/plain"}, 415),
            ({"content-type": "multipart/form-data; boundary=x"}, 415),
            ({"content-encoding": "gzip"}, 415),
            ({"content-type": "application/JSON; charset=utf-8"}, 200),
            ({"content-type": "application/vnd.api+json"}, 200),
        ],
    )
    def test_media_types(self, server: Replaying, headers: dict[str, str], status: int) -> None:
        response = post(server.url, ask(max_tokens=1), **headers)
        assert response.status_code == status
        if status != 200:
            assert_error(response.json(), "unsupported_media_type")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"1",
            b'"x"',
            b"\xff\xfe{}",
            b"[" * 10_000,
            b'{"messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
            b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
            b'{"n": ' + b"9" * 5_000 + b', "messages": [{"role": "user", "content": "x"}]}',
            b'{"temperature": 1e999, "messages": [{"role": "user", "content": "x"}]}',
            b'{"temperature": NaN, "messages": [{"role": "user", "content": "x"}]}',
            b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
            b'{"messages": [{"role": "user", "content": "x"}], "\\ud800": 1}',
            b'{"model": "a", "model": 5, "messages": [{"role": "user", "content": "x"}]}',
        ],
        ids=lambda body: repr(body[:24]),
    )
    def test_bodies_that_are_no_request(self, server: Replaying, body: bytes) -> None:
        response = post(server.url, body)
        assert response.status_code == 400, response.text[:300]
        assert_error(response.json())
        assert response.json()["error"]["type"] == "invalid_request_error"


CANARY = "zebra7"  # stands for whatever the client sent, a secret perhaps


class TestErrorsRepeatNothing:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            (CHAT, ask(model=CANARY)),
            (CHAT, ask(temperature=CANARY)),
            (CHAT, ask(reasoning_effort=CANARY)),
            (CHAT, ask(tool_choice=CANARY, tools=[TOOL])),
            (CHAT, ask(tool_choice={"type": "function", "function": {"name": CANARY}}, tools=[TOOL])),
            (CHAT, ask(tool_choice={"type": CANARY}, tools=[TOOL])),
            (CHAT, ask(tools=[{"type": CANARY, CANARY: CANARY}], tool_choice="required")),
            (CHAT, ask(response_format={"type": CANARY})),
            (
                CHAT,
                ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": CANARY}}}),
            ),
            (CHAT, ask(structured_outputs={"regex": f"({CANARY}"})),
            (CHAT, ask(structured_outputs={"grammar": f"start: ({CANARY}"})),
            (CHAT, ask(structured_outputs={"json": f"{{{CANARY}"})),
            (CHAT, ask(messages=[{"role": "user", "content": [{"type": CANARY, "text": "x"}]}])),
            (CHAT, ask(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": CANARY}}]}])),
            (CHAT, ask(messages=CANARY)),
            (CHAT, ask(messages=[CANARY])),
            (CHAT, ask(chat_template=CANARY)),
            (CHAT, ask(chat_template_kwargs={"tokenize": CANARY, "messages": CANARY})),
            (CHAT, ask(stop=[CANARY] * 20)),
            (CHAT, ask(logit_bias={"7": CANARY})),
            (CHAT, ask(cache_salt=CANARY * 30)),
            ("/v1/completions", {"prompt": {CANARY: CANARY}}),
            ("/v1/completions", {"prompt": [1], "suffix": CANARY}),
            ("/v1/embeddings", {"input": CANARY}),
            ("/v1/embeddings", {"input": "x", "encoding_format": CANARY}),
            ("/v1/rerank", {"query": 5, "documents": [CANARY]}),
            ("/v1/score", {"text_1": [CANARY, CANARY], "text_2": [5]}),
            ("/tokenize", {"prompt": CANARY, "messages": [{"role": "user", "content": CANARY}]}),
            ("/detokenize", {"tokens": [CANARY]}),
            (f"/v1/{CANARY}", {}),
            ("/v1/models", {CANARY: 1}),
        ],
    )
    def test_values(self, server: Replaying, path: str, body: Any) -> None:
        response = post(server.url, body, path)
        assert 400 <= response.status_code < 500, response.text
        assert_error(response.json())
        assert CANARY not in response.text

    @pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings", "/v1/rerank", "/tokenize"])
    def test_a_large_bad_request_has_a_small_answer(self, server: Replaying, path: str) -> None:
        noise = "\N{PARROT}" * 800
        keys = {noise[:n]: [noise[:n], {noise: 1}] for n in range(1, 9)}
        for value in (keys, [keys] * 3, [noise[:50]] * 50):
            fields = ("model", "messages", "prompt", "input", "query", "documents", "logit_bias", "stop", "tools")
            for body in (dict.fromkeys(fields, value), {"messages": value}, value):
                response = post(server.url, json.dumps(body, ensure_ascii=False).encode()[:20_000], path)
                assert response.status_code in (400, 413)
                assert len(response.content) < 2048

    def test_of_any_length_of_message(self) -> None:
        for letter in ("a", "é", "\N{PARROT}", "\ud800"):
            for length in (400, 1400, 3000):
                body = errors.body(BadRequestError(letter * length, param="x" * 100))
                assert len(body) < 2048
                assert_error(json.loads(body))
        assert BadRequestError("a" * MAX_MESSAGE).message == "a" * MAX_MESSAGE

    def test_in_paths(self, server: Replaying) -> None:
        for method, path in (
            ("DELETE", f"/v1/models/{CANARY}"),
            ("GET", f"/v1/models/{CANARY}"),
            ("GET", f"/{CANARY}"),
        ):
            response = httpx.request(method, server.url + path, headers={"authorization": f"Bearer {KEY}"})
            assert response.status_code in (404, 405)
            assert_error(response.json())
            assert CANARY not in response.text


class TestKeys:
    @pytest.mark.parametrize(
        "path",
        ["/v1/models", "/v1/models/tiny", "/metrics", "/version", "/openapi.json", "/nothing", CHAT, "/v1/messages"],
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
    def test_nothing_works_without_one(self, server: Replaying, path: str, method: str) -> None:
        response = httpx.request(method, server.url + path)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        if method != "HEAD" and not path.startswith("/v1/messages"):
            assert_error(response.json(), "invalid_api_key")

    @pytest.mark.parametrize(
        "headers",
        [
            {"authorization": "Bearer wrong"},
            {"authorization": "Bearer"},
            {"authorization": f"Basic {KEY}"},
            {"authorization": f"Bearer {KEY}x"},
            {"authorization": f"Bearer {KEY[:-1]}"},
            {"authorization": KEY},
            {"x-api-key": "wrong"},
            {"x-api-key": ""},
            {"x-api-key": f"Bearer {KEY}"},
            {"authorization": "Bearer wrong", "x-api-key": KEY},
        ],
    )
    def test_wrong_ones(self, server: Replaying, headers: dict[str, str]) -> None:
        assert httpx.get(server.url + "/v1/models", headers=headers).status_code == 401

    @pytest.mark.parametrize(
        "headers",
        [
            {"authorization": f"Bearer {KEY}"},
            {"authorization": f"bearer  {KEY}"},
            {"authorization": "Bearer open"},
            {"x-api-key": KEY},
            {"authorization": "", "x-api-key": KEY},
        ],
    )
    def test_right_ones(self, server: Replaying, headers: dict[str, str]) -> None:
        assert httpx.get(server.url + "/v1/models", headers=headers).status_code == 200

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_the_probes_are_open(self, server: Replaying, method: str) -> None:
        assert httpx.request(method, server.url + "/health").status_code == 200
        assert httpx.request(method, server.url + "/ping").status_code == 200

    @pytest.mark.parametrize(
        ("target", "host"),
        [
            ("/v1/models", "localhost/health?"),
            ("/v1/models", "localhost/health#"),
            ("/v1/models", "/health"),
            ("/v1/models", ""),
            ("http://localhost/v1/models", "localhost/health"),
            ("http://localhost/health/../v1/models", "localhost"),
            ("/health/../v1/models", "localhost"),
            ("/health/%2e%2e/v1/models", "localhost"),
            ("/health;/v1/models", "localhost"),
            ("/health%3f/v1/models", "localhost"),
            ("//health/v1/models", "localhost"),
            ("/v1%2fmodels", "localhost"),
            ("/v1/models?/health", "localhost"),
            ("/v1/models#/health", "localhost"),
            ("/health/", "localhost"),
            ("/health/v1/models", "localhost"),
        ],
    )
    def test_no_path_or_host_opens_the_door(self, server: Replaying, target: str, host: str) -> None:
        answer = raw(server.url, request("GET", target, headers=[("Host", host), CLOSE]))
        assert answer.status in (400, 401)
        assert_error(answer.json)


class TestPages:
    """Without keys, what a browser sends for a page is told from what a person's programs send."""

    @pytest.fixture(scope="class")
    @staticmethod
    def open_(request: pytest.FixtureRequest) -> Iterator[Replaying]:
        with replaying(ANSWERS, cors_origins=["https://ours.example"]) as up:
            yield up

    @pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics", CHAT, "/v1/messages", "/nothing"])
    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "evil.example"},
            {"host": "evil.example:8000"},
            {"host": "127.0.0.1.evil.example"},
            {"host": "10.0.0.1"},
            {"origin": "https://evil.example"},
            {"origin": "http://localhost:3000"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        ],
        ids=str,
    )
    def test_of_others_are_refused(self, open_: Replaying, path: str, headers: dict[str, str]) -> None:
        for method in ("GET", "POST"):
            response = httpx.request(method, open_.url + path, headers=headers, json=ask(max_tokens=1))
            assert response.status_code == 403
            assert "access-control-allow-origin" not in response.headers

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:8000", "127.8.8.8:1", None])
    def test_a_persons_programs_are_not(self, open_: Replaying, host: str | None) -> None:
        headers = {} if host is None else {"host": host}
        for more in ({}, {"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin", "origin": f"http://{host}"}):
            if host is not None or not more.get("origin"):
                response = httpx.post(open_.url + CHAT, headers={**headers, **more}, json=ask(max_tokens=1))
                assert response.status_code == 200, response.text

    def test_of_named_origins_may_ask(self, open_: Replaying) -> None:
        origin = {"origin": "https://ours.example", "sec-fetch-site": "cross-site"}
        response = httpx.post(open_.url + CHAT, headers=origin, json=ask(max_tokens=1, strange=1))
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "https://ours.example"
        assert "x-portico-warning" in response.headers["access-control-expose-headers"]
        asking = {
            "origin": "https://ours.example",
            "access-control-request-method": "POST",
            "access-control-request-private-network": "true",
        }
        preflight = httpx.options(open_.url + CHAT, headers=asking)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-private-network"] == "true"
        assert httpx.options(open_.url + CHAT, headers={**asking, "origin": "https://evil.example"}).status_code == 400

    @pytest.mark.parametrize(
        ("bound", "host", "status"),
        [
            ("0.0.0.0", "10.0.0.1:8000", 200),
            ("0.0.0.0", "portico:8000", 200),
            ("0.0.0.0", "gpu.local", 200),
            ("0.0.0.0", "evil.example", 403),
            ("models.example", "models.example", 200),
            ("models.example", "evil.example", 403),
        ],
    )
    def test_beyond_loopback(self, bound: str, host: str, status: int) -> None:
        with replaying(ANSWERS, host=bound) as up:
            assert httpx.get(up.url + "/health", headers={"host": host}).status_code == status

    @pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
    def test_a_body_says_that_it_is_json(self, open_: Replaying, kind: str | None) -> None:
        headers = {} if kind is None else {"content-type": kind}
        response = httpx.post(open_.url + CHAT, content=json.dumps(ask()).encode(), headers=headers)
        assert response.status_code == 415
        assert_error(response.json(), "unsupported_media_type")


class TestHowMany:
    def test_in_all(self) -> None:
        with (
            replaying(ANSWERS, max_in_flight=2, interval=0.02, capabilities=frozenset({"generate", "embed"})) as up,
            httpx.stream("POST", up.url + CHAT, json=ask("[[slow]]", stream=True)) as one,
            httpx.stream("POST", up.url + CHAT, json=ask("[[slow]]", stream=True)) as two,
        ):
            assert (one.status_code, two.status_code) == (200, 200)
            for path, body in ((CHAT, ask()), ("/v1/embeddings", {"input": "x"}), ("/tokenize", {"prompt": "x"})):
                response = post(up.url, body, path)
                assert response.status_code == 503
                assert_error(response.json(), "queue_full")
                assert int(response.headers["retry-after"]) >= 1
            for path in ("/health", "/metrics", "/v1/models"):
                assert httpx.get(up.url + path).status_code == 200
            two.close()
            until(lambda: post(up.url, ask(max_tokens=1)).status_code == 200)

    def test_with_one_key(self) -> None:
        with (
            replaying(ANSWERS, max_per_key=1, keys=[KEY, "open"], interval=0.02) as up,
            httpx.stream("POST", up.url + CHAT, json=ask("[[slow]]", stream=True), headers=dict([BEARER])) as one,
        ):
            assert one.status_code == 200
            response = post(up.url, ask())
            assert response.status_code == 429
            assert_error(response.json(), "rate_limit_exceeded")
            assert int(response.headers["retry-after"]) >= 1
            assert post(up.url, ask(max_tokens=1), key="open").status_code == 200
            one.close()
            until(lambda: post(up.url, ask(max_tokens=1)).status_code == 200)

    def test_bodies_that_trickle_in_hold_no_place(self) -> None:
        with replaying(ANSWERS, max_in_flight=1, client_timeout=60) as up, ExitStack() as open_:
            for _ in range(20):
                slow = open_.enter_context(_connection(up.url))
                slow.sendall(request("POST", CHAT, headers=[JSON_TYPE, ("Content-Length", "100")]) + b"{")
            for _ in range(3):
                assert post(up.url, ask(max_tokens=1)).status_code == 200

    def test_of_bodies_that_trickle_in_the_largest_gives_way(self) -> None:
        """Four of the largest size may be in memory; the rest of them is told to try again, and small ones pass."""
        size = 1 << 20
        with replaying(ANSWERS, max_body=size, client_timeout=60) as up, ExitStack() as open_:
            slow = [open_.enter_context(_connection(up.url)) for _ in range(6)]
            for one in slow:
                head = request("POST", CHAT, headers=[JSON_TYPE, ("Content-Length", str(size))])
                one.sendall(head + b" " * (size - 1000))
            until(lambda: len(select.select(slow, [], [], 0)[0]) >= 2)
            refused = select.select(slow, [], [], 0)[0]
            assert len(refused) == 2
            assert all(b"503" in one.recv(1 << 16) for one in refused)
            assert post(up.url, ask("x" * 1000, max_tokens=1)).status_code == 200


class TestHowLong:
    def test_a_request_has_a_deadline(self) -> None:
        with (
            replaying(ANSWERS, request_timeout=0.5, interval=0.05) as up,
            concurrent.futures.ThreadPoolExecutor() as pool,
        ):
            response, stream = pool.map(lambda stream: post(up.url, ask("[[slow]]", stream=stream)), (False, True))
            assert response.status_code == 408
            assert_error(response.json(), "request_timeout")
            events = sse(stream.content)
            assert_error(json.loads(events[-2]), "request_timeout")
            assert events[-1] == b"[DONE]"

    def test_a_stalled_reader_is_cut_off(self) -> None:
        """The answer waits in buffers; its connection must not wait for ever."""
        answers = {"long": "a long story " * 20_000}
        with replaying(answers, client_timeout=1.0, max_in_flight=1) as up, _connection(up.url, 4096) as slow:
            body = json.dumps(ask("[[long]]", stream=True)).encode()
            slow.sendall(request("POST", CHAT, body, [JSON_TYPE]))
            until(lambda: post(up.url, ask(max_tokens=1)).status_code == 200)

    def test_a_stalled_reader_of_a_whole_answer_is_cut_off(self) -> None:
        with embedding(client_timeout=0.5) as up, _connection(up.url, 4096) as slow:
            slow.sendall(request("POST", "/v1/embeddings", LONG, [JSON_TYPE]))
            select.select([slow], [], [])
            until(lambda: not up.connections())
            assert _drained(slow) < LONG_ANSWER

    def test_a_slow_reader_gets_everything(self) -> None:
        """It takes longer than a client may be silent, but never stops for so long."""
        with embedding(client_timeout=2.5) as up, _connection(up.url, 1 << 16) as slow:
            slow.sendall(request("POST", "/v1/embeddings", LONG, [JSON_TYPE, CLOSE]))
            assert _drained(slow, pauses=[1.3] * 2) > LONG_ANSWER


def embedding(**limits: Any) -> AbstractContextManager[Replaying]:
    return replaying(ANSWERS, capabilities=frozenset({"embed"}), embedding_size=4096, **limits)


class TestFailures:
    def test_before_the_first_byte(self, server: Replaying) -> None:
        response = post(server.url, ask("[[fails]]"))
        assert response.status_code == 500
        assert_error(response.json(), "engine_error")
        assert response.json()["error"]["message"] == "The GPU is on fire."

    @pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
    def test_in_a_stream(self, server: Replaying, path: str) -> None:
        body = ask("[[fails]]") if path == CHAT else {"prompt": "[[fails]]", "max_tokens": 200}
        response = post(server.url, {**body, "stream": True}, path)
        events = sse(response.content)
        assert response.status_code == 200
        assert_error(json.loads(events[-2]), "engine_error")
        assert events[-1] == b"[DONE]"
        text = "".join(
            choice.get("text") or choice.get("delta", {}).get("content") or ""
            for event in events[:-2]
            for choice in json.loads(event)["choices"]
        )
        assert text.startswith(bytes(range(65, 88)).decode()[:3]) or text
        assert all(choice["finish_reason"] is None for e in events[:-2] for choice in json.loads(e)["choices"])

    def test_the_server_goes_on(self, server: Replaying) -> None:
        assert post(server.url, ask()).json()["choices"][0]["message"]["content"] == "It is sunny."


class TestEqualNames:
    def test_two_requests_of_one_id_do_not_meet(self) -> None:
        """A client chooses its requests' ids; two that choose the same get each their own answer."""
        answers = {"one": "one " * 50, "two": "two " * 50}
        with replaying(answers, interval=0.005) as up, concurrent.futures.ThreadPoolExecutor(8) as pool:
            names = ["one", "two"] * 4

            def answer(name: str) -> str:
                response = post(up.url, ask(f"[[{name}]]", n=2), **{"x-request-id": "same"})
                assert response.headers["x-request-id"] == "same"
                choices = response.json()["choices"]
                assert len({choice["message"]["content"] for choice in choices}) == 1
                return str(choices[0]["message"]["content"])

            assert list(pool.map(answer, names)) == [answers[name] for name in names]

    @pytest.mark.parametrize("given", ["a b", "a\tb", "x" * 200, "naïve"])
    def test_names_that_could_hurt_are_replaced(self, server: Replaying, given: str) -> None:
        answer = raw(server.url, request("GET", "/v1/models", headers=[BEARER, ("X-Request-Id", given), CLOSE]))
        assert answer.status == 200
        assert given.encode("latin-1") not in answer.data

    def test_the_body_may_name_the_request(self, server: Replaying) -> None:
        response = post(server.url, ask(request_id="mine"))
        assert response.headers["x-request-id"] == "mine"
        assert response.json()["id"] == "chatcmpl-mine"
        both = post(server.url, ask(request_id="mine"), **{"x-request-id": "header"})
        assert both.json()["id"] == "chatcmpl-header"


class TestRawConnections:
    """Slow, broken and hostile HTTP."""

    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03tls\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /health HTTP/9.9\r\n\r\n",
            b"GET\x00/health HTTP/1.1\r\n\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
            b"GET /health HTTP/1.1\r\nX: a\x00b\r\n\r\n",
            b"GET /health HTTP/1.1\r\nX\x00: ab\r\n\r\n",
            b"GET /health HTTP/1.1\r\nX Y: ab\r\n\r\n",
            b"CONNECT localhost:1 HTTP/1.1\r\n\r\n",
            b"POST /ping HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            b"POST /ping HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            b"POST /ping HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
            b"POST /ping HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            request("POST", CHAT, b"zz\r\nhello\r\n", [BEARER, ("Transfer-Encoding", "chunked")]),
            request("POST", CHAT, b"5\r\nhelloXX0\r\n\r\n", [BEARER, ("Transfer-Encoding", "chunked")]),
            request("POST", CHAT, b"ffffffffffffffffff\r\nhello\r\n", [BEARER, ("Transfer-Encoding", "chunked")]),
        ],
        ids=lambda data: repr(data[:40]),
    )
    def test_what_is_not_http(self, server: Replaying, data: bytes) -> None:
        answer = raw(server.url, data)
        assert answer.status == 400
        assert answer.closed
        assert_error(answer.json)

    @pytest.mark.parametrize(
        "data",
        [
            b"GET /health HTTP/1.1\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
            b"GET /health HTTP/1.1\r\nX: " + b"a" * 300_000,
            b"GET /health HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(2_000)) + b"\r\n",
            b"GET /health?" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /" + b"a" * 300_000,
            b"GET /health HTTP/1.1\r\n" + b"a" * 300_000,
        ],
        ids=lambda data: repr(data[:30]),
    )
    def test_heads_that_are_too_large(self, server: Replaying, data: bytes) -> None:
        answer = raw(server.url, data)
        if answer.data:  # a reset may overtake the answer while we are still sending
            assert answer.status == 431
            assert_error(answer.json, "request_header_fields_too_large")
        assert answer.closed

    def test_a_large_head_in_small_pieces(self, server: Replaying) -> None:
        answer = raw(server.url, b"GET /health HTTP/1.1\r\n", *[b"X: " + b"a" * 500 + b"\r\n"] * 30, pause=0.002)
        assert answer.closed
        assert answer.statuses in ([431], [])

    def test_requests_that_never_arrive(self, server: Replaying) -> None:
        cases = {
            b"GET /health HTTP/1.1\r\nHost: loca": [408],
            b"G": [408],
            b"": [],
            b"\r\n": [],
            request("POST", CHAT, b"{", [BEARER, ("Content-Length", "100")]): [408],
            request("POST", CHAT, b"5\r\nhel", [BEARER, ("Transfer-Encoding", "chunked")]): [408],
        }
        for (data, status), answer in zip(
            cases.items(), _at_once(server.url, *([data] for data in cases)), strict=True
        ):
            assert answer.statuses == status, data
            assert answer.closed, data
            if status:
                assert_error(answer.json, "request_timeout")

    def test_anthropics_clients_are_refused_in_its_shape(self, server: Replaying) -> None:
        cases: list[tuple[bytes, int, str | None]] = [
            (request("POST", "/v1/messages", b"{", [BEARER, ("Content-Length", "100")]), 504, "timeout_error"),
            (request("POST", "http://localhost/v1/messages", b"{", [BEARER, ("Content-Length", "9")]), 504, None),
            (b"POST /v1/messages?beta=true HTTP/1.1\r\nX: " + b"a" * 30_000, 431, "invalid_request_error"),
            (b"GET /v1/models HTTP/1.1\r\nAnthropic-Version: 1\r\nX: " + b"a" * 300_000, 431, None),
            (b"POST /v1/messages HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, "invalid_request_error"),
            (b"GET /v1/models HTTP/1.1\r\nAnthropic-Version: 1\r\nX: 1\r\nno colon\r\n\r\n", 400, None),
        ]
        answers = _at_once(server.url, *([data] for data, _, _ in cases))
        for (data, status, kind), answer in zip(cases, answers, strict=True):
            if answer.data:  # a reset may overtake the answer while we are still sending
                assert answer.status == status, data[:60]
                body = answer.json
                assert set(body) == {"type", "error", "request_id"}
                assert set(body["error"]) == {"type", "message"}
                assert body["error"]["type"] == (kind or body["error"]["type"])
                assert f"request-id: {body['request_id']}\r\n".encode() in answer.data
            assert answer.closed

    @pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"GET http://[v1/messages HTTP/1.1\r\n: \r\n\r\n"])
    def test_whoever_cannot_be_told_apart_gets_openais(self, server: Replaying, data: bytes) -> None:
        assert_error(raw(server.url, data).json, "invalid_http")

    def test_a_second_request_that_never_arrives(self, server: Replaying) -> None:
        rests = {b"G": [200, 408], b"\r\n": [200], b"\r\n\r\n": [200]}
        answers = _at_once(server.url, *([request("GET", "/health"), rest] for rest in rests), pause=0.2)
        for (rest, statuses), answer in zip(rests.items(), answers, strict=True):
            assert answer.statuses == statuses, rest
            assert answer.closed, rest

    def test_slow_loris(self, server: Replaying) -> None:
        """One byte at a time, just often enough not to look idle."""
        slow = [
            [data[i : i + 1] for i in range(len(data))]
            for data in (b"GET /health HTTP/1.1\r\nX: " + b"a" * 80, b"\r\n" * 40)
        ]
        for pieces, answer in zip(slow, _at_once(server.url, *slow, pause=0.1), strict=True):
            assert answer.closed
            assert answer.sent < len(pieces), "it was not cut off"

    def test_a_refused_body_is_not_answered_twice(self, server: Replaying) -> None:
        large = ("Content-Length", "999999999")
        head = request("POST", CHAT, b"{", [BEARER, large])
        early = request("POST", CHAT, headers=[BEARER, JSON_TYPE, ("Expect", "100-continue"), large])
        for answer in _at_once(server.url, [head, b"x" * 1000], [early], pause=0.3):
            assert answer.status == 413
            assert answer.closed

    @pytest.mark.parametrize("upgrade", ["websocket", "h2c", "foo"])
    def test_upgrades_are_not_taken(self, server: Replaying, upgrade: str) -> None:
        wish = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", upgrade), ("HTTP2-Settings", "AAMAAABkAAQ")]
        body = json.dumps(ask()).encode()
        once, last = (request("POST", CHAT, body, [BEARER, JSON_TYPE, *wish, *end]) for end in ([], [CLOSE]))
        answer = raw(server.url, once + once, last, pause=0.1, end=True)
        assert answer.statuses == [200, 200, 200]
        assert answer.data.count(b"It is sunny.") == 3
        assert answer.data.count(b"connection: close") == 1
        closing = [BEARER, ("Connection", "close, Upgrade"), ("Upgrade", upgrade)]
        old = request("POST", CHAT, json.dumps(ask(stream=True)).encode(), closing)
        for one in (old, old.replace(b"HTTP/1.1", b"HTTP/1.0", 1)):
            answer = raw(server.url, one)
            assert answer.status == 200
            assert b"connection: close" in answer.data
            assert (b"transfer-encoding: chunked" in answer.data) == (one is old)
        socket_wish = [BEARER, *wish, ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZQ==")]
        refused = raw(server.url, request("GET", CHAT, headers=socket_wish), end=True)
        assert refused.status == 405

    def test_pipelining(self, server: Replaying) -> None:
        body = json.dumps(ask()).encode()
        first, last = (request("POST", CHAT, body, [BEARER, JSON_TYPE, *end]) for end in ([], [CLOSE]))
        answer = raw(server.url, first * 5 + last)
        assert answer.statuses == [200] * 6
        assert answer.closed

    def test_garbage_does_not_get_into_a_stream(self) -> None:
        with replaying(ANSWERS, interval=0.02) as up:
            body = json.dumps(ask("[[slow]]", stream=True, max_tokens=90)).encode()
            answer = raw(up.url, request("POST", CHAT, body, [JSON_TYPE]), b"\x00garbage\r\n\r\n", pause=0.3)
            assert answer.closed
            assert answer.status == 200
            assert b"invalid_http" not in answer.data

    def test_who_has_asked_may_close_his_half(self) -> None:
        with replaying(ANSWERS, interval=0.02) as up:
            for stream in (False, True):
                body = json.dumps(ask("[[slow]]", stream=stream, max_tokens=60)).encode()
                answer = raw(up.url, request("POST", CHAT, body), end=True)
                assert answer.closed
                assert answer.statuses[-1] == 200
                assert b"finish_reason" in answer.data

    def test_a_client_that_is_gone_altogether_gives_its_place_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "HALF_CLOSED", 0.1)
        answers = {"slow": "a long story " * 10_000}
        with replaying(answers, interval=0.02, max_in_flight=1) as up:
            with _connection(up.url) as one:
                one.sendall(request("POST", CHAT, json.dumps(ask()).encode()))
            until(lambda: post(up.url, ask(max_tokens=1)).status_code == 200)

    @pytest.mark.parametrize(
        "garbage", [b"\x00garbage\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"G", b"POST / HTTP/1.1\r\nHost: x\r\n" * 2]
    )
    def test_garbage_behind_a_request_does_not_take_its_answer(self, server: Replaying, garbage: bytes) -> None:
        body = json.dumps(ask()).encode()
        answer = raw(server.url, request("POST", CHAT, body, [BEARER]) * 2 + garbage)
        assert answer.statuses[:2] == [200, 200]
        assert answer.data.count(b"It is sunny.") == 2
        assert answer.closed

    @pytest.mark.parametrize(
        "head",
        [
            b"GET /health HTTP/1.1\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"GET /health HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
            b"GET /health\r\n\r\n",
            b"GET /health HTTP/0.9\r\n\r\n",
        ],
    )
    def test_one_host_and_a_version_that_has_it(self, server: Replaying, head: bytes) -> None:
        answer = raw(server.url, head)
        assert answer.status == 400
        assert answer.closed
        assert_error(answer.json, "invalid_http")

    def test_http_1_0_has_no_chunks(self, server: Replaying) -> None:
        for stream in (True, False):
            body = json.dumps(ask(stream=stream)).encode()
            old = request("POST", CHAT, body, [BEARER]).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
            answer = raw(server.url, old)
            head, _, content = answer.data.partition(b"\r\n\r\n")
            assert answer.closed
            assert b"connection: close" in head.lower()
            assert b"transfer-encoding" not in head.lower()
            if stream:
                assert content.startswith(b"data: {")
                assert content.endswith(b"data: [DONE]\n\n")
            else:
                assert json.loads(content)["choices"]

    def test_a_large_head_on_a_connection_that_was_kept(self, server: Replaying) -> None:
        answer = raw(server.url, request("GET", "/health"), b"GET /health HTTP/1.1\r\nX: " + b"a" * 300_000, pause=0.2)
        assert answer.statuses == [200, 431]
        assert answer.closed

    def test_a_half_closed_connection_is_a_client_that_left(self, server: Replaying) -> None:
        answer = raw(server.url, request("POST", CHAT, b"{", [BEARER, ("Content-Length", "100")]), end=True)
        assert answer.closed

    def test_head_has_no_body(self, server: Replaying) -> None:
        answer = raw(server.url, request("HEAD", "/v1/models", headers=[BEARER, CLOSE]))
        assert answer.status == 200
        assert answer.data.endswith(b"\r\n\r\n")

    def test_expect_continue(self, server: Replaying) -> None:
        body = json.dumps(ask()).encode()
        answer = raw(server.url, request("POST", CHAT, body, [BEARER, JSON_TYPE, CLOSE, ("Expect", "100-continue")]))
        assert answer.statuses == [100, 200]

    @pytest.mark.parametrize("value", [b"\xff\xfe", b"\xc3\x28", "é".encode()])
    def test_header_bytes_that_are_no_text(self, server: Replaying, value: bytes) -> None:
        headers = [("X-Request-Id", value), ("Content-Type", value), ("anthropic-version", value), CLOSE]
        assert raw(server.url, request("POST", CHAT, b"{}", [BEARER, *headers])).status == 415
        assert (
            raw(server.url, request("POST", CHAT, b"{}", [("Authorization", b"Bearer " + value), CLOSE])).status == 401
        )
        query = request(
            "GET", b"/v1/models?x=%ff&y=" + b"%c3%28", headers=[BEARER, ("anthropic-version", value), CLOSE]
        )
        assert raw(server.url, query).status == 200

    def test_paths_that_are_no_text(self, server: Replaying) -> None:
        for path in ("/v1/models/%ff%fe", "/v1/models/%00", "/%ed%a0%80", "/v1/models/%F0%9F%98%80" * 300):
            answer = raw(server.url, request("GET", path, headers=[BEARER, CLOSE]))
            assert answer.status == 404
            assert_error(answer.json)

    def test_of_two_keys_no_wrong_one_hides(self, server: Replaying) -> None:
        both = [BEARER, ("Authorization", "Bearer wrong")]
        assert raw(server.url, request("GET", "/v1/models", headers=[*both, CLOSE])).status == 401


class TestSettings:
    """Every limit is a setting of ``portico serve``."""

    @pytest.fixture(scope="class")
    @staticmethod
    def strict(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
        recorded = tmp_path_factory.mktemp("replay") / "answers.jsonl"
        recorded.write_text(json.dumps({"text": "a long story " * 300}) + "\n")
        limits = {
            "max_in_flight": 2,
            "max_per_key": 1,
            "max_header": 2000,
            "max_body": 4000,
            "max_choices": 2,
            "max_logprobs": 1,
            "max_stop": 1,
            "max_tools": 1,
            "max_schema_depth": 2,
            "request_timeout": 1.5,
            "client_timeout": 1.5,
        }
        flags = [part for name, value in limits.items() for part in ("--" + name.replace("_", "-"), str(value))]
        engine = ["--engine", f"replay:{recorded}", "--replay-rate", "20", "--tool-parser", "hermes"]
        environment = {"PORTICO_API_KEY": "one,two,three"}
        with running_server("smollm2", *engine, *flags, "--log-level", "warning", env=environment) as up:
            yield up

    @pytest.mark.parametrize(
        ("change", "status", "param"),
        [
            ({"n": 3}, 400, "n"),
            ({"logprobs": True, "top_logprobs": 2}, 400, "top_logprobs"),
            ({"stop": ["a", "b"]}, 400, "stop"),
            ({"tools": [TOOL] * 2}, 400, "tools"),
            ({"response_format": structured(3)}, 400, "response_format"),
            ({"user": "x" * 5000}, 413, None),
        ],
    )
    def test_of_requests(self, strict: RunningServer, change: dict[str, Any], status: int, param: str | None) -> None:
        response = post(strict.url, ask(**change), key="three")
        assert response.status_code == status
        assert_error(response.json())
        assert (response.json()["error"]["param"] or "").startswith(param or "")

    def test_of_numbers(self, strict: RunningServer) -> None:
        def stream(key: str) -> Any:
            headers = {"authorization": f"Bearer {key}"}
            return httpx.stream("POST", strict.url + CHAT, json=ask(stream=True), headers=headers)

        def beside(running: Sequence[str], key: str) -> httpx.Response:
            """What ``key`` is told while answers run for others; its own answer, late, where they have just ended."""
            with ExitStack() as streams:
                for one in running:
                    streams.enter_context(stream(one))
                return post(strict.url, ask(), key=key)

        def refuses(status: int, running: Sequence[str], key: str) -> bool:
            told = beside(running, key)
            return told.status_code == status and "retry-after" in told.headers

        until(lambda: refuses(503, ["one", "two"], "three"))
        until(lambda: refuses(429, ["one"], "one"))
        until(lambda: post(strict.url, ask(), key="two").status_code == 408)

    def test_of_connections(self, strict: RunningServer) -> None:
        large = raw(strict.url, b"GET /health HTTP/1.1\r\nX: " + b"a" * 3000 + b"\r\n\r\n")
        assert large.statuses in ([431], [])  # a reset may overtake the answer while we are still sending
        assert large.closed
        late = raw(strict.url, b"GET /health HTTP/1.1\r\n")
        assert (late.status, late.closed) == (408, True)
        wish = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        assert raw(strict.url, request("GET", "/health", headers=wish), end=True).status == 200


def sse(content: bytes) -> list[bytes]:
    frames = content.split(b"\n\n")
    assert frames.pop() == b""
    assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in frames)
    return [frame.removeprefix(b"data: ") for frame in frames]


def _at_once(url: str, *clients: Sequence[bytes], pause: float = 0.0) -> list[Answer]:
    """What each of them gets for its pieces, in their order, while they all wait."""
    with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(lambda pieces: raw(url, *pieces, pause=pause), clients))


def _connection(url: str, receive_buffer: int | None = None) -> socket.socket:
    where = urlsplit(url)
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((where.hostname, where.port))
    return connection


def _drained(connection: socket.socket, pauses: Sequence[float] = ()) -> int:
    """How many bytes still come; after each of the first megabytes the reader rests, for so many seconds."""
    received = 0
    waiting = list(pauses)
    try:
        while chunk := connection.recv(1 << 16):
            received += len(chunk)
            if waiting and received > (len(pauses) - len(waiting) + 1) << 20:
                time.sleep(waiting.pop())
    except OSError:
        pass
    return received
