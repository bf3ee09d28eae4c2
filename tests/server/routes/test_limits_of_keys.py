"""Keys with names over every API: their limits, what is told of them, and which models they may use."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import httpx
import pytest
from msgspec.structs import replace

from portico.keys import Key, hash_of
from portico.protos import inference_pb2 as pb
from portico.protos.inference_pb2_grpc import InferenceStub
from support.grpc import calling
from support.replay import Replaying, replaying
from support.wait import SAFETY, until

SECRET = "sk-of-ann"
HASH = hash_of(SECRET)
NOW = 1_800_000_000.0
ANSWER = "Hello, there."

CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 40})
ASKED: list[tuple[str, dict[str, Any]]] = [
    CHAT,
    ("/v1/completions", {"prompt": "hi", "max_tokens": 40}),
    ("/v1/messages", {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 40}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 40, "store": False}),
]
EVERY = pytest.mark.parametrize(("path", "body"), ASKED, ids=[path for path, _ in ASKED])


@contextmanager
def serving(key: Key, **more: Any) -> Iterator[tuple[Replaying, httpx.Client, list[float]]]:
    """A server for that key, a client that has it, and the time, which stands."""
    now = [NOW]
    with (
        replaying({"a": ANSWER}, people=[key], clock=lambda: now[0], **more) as up,
        httpx.Client(base_url=up.url, headers={"authorization": f"Bearer {SECRET}"}, timeout=SAFETY) as client,
    ):
        yield up, client, now


def told(response: httpx.Response, unit: str) -> tuple[int, int, str]:
    """Limit, remaining and reset, from whichever headers the API has."""
    ours = f"anthropic-ratelimit-{unit}-{{}}" if "messages" in response.url.path else f"x-ratelimit-{{}}-{unit}"
    limit, remaining, reset = (response.headers[ours.format(what)] for what in ("limit", "remaining", "reset"))
    return int(limit), int(remaining), reset


def used_of(body: dict[str, Any]) -> int:
    usage = body["usage"]
    return int(usage.get("prompt_tokens", usage.get("input_tokens", 0))) + int(
        usage.get("completion_tokens", usage.get("output_tokens", 0))
    )


@EVERY
@pytest.mark.parametrize("stream", [False, True])
def test_tokens_are_those_of_the_answers(path: str, body: dict[str, Any], stream: bool) -> None:
    with serving(Key(name="ann", hash=HASH, requests_per_minute=2, tokens_per_minute=150)) as (_, client, now):
        used = used_of(client.post(path, json=body).json())
        now[0] += 61
        first = client.post(path, json={**body, "stream": stream})
        assert first.status_code == 200
        limit, remaining, _ = told(first, "tokens")
        assert (limit, told(first, "requests")[:2]) == (150, (2, 1))
        assert remaining < 150 - used or not stream, "until it has ended, as many as it may have are counted"
        second = client.post(path, json=body)
        assert told(second, "tokens")[1] == 150 - 2 * used, "then as many as it had"


@EVERY
def test_what_is_over_a_limit_is_refused_until_it_may_be_tried_again(path: str, body: dict[str, Any]) -> None:
    with serving(Key(name="ann", hash=HASH, requests_per_minute=1)) as (up, client, now):
        assert client.post(path, json=body).status_code == 200
        now[0] += 20
        refused = client.post(path, json={**body, "stream": True})
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "41"
        error = refused.json()["error"]
        assert error["type"] == "rate_limit_error"
        assert "1 requests per minute" in error["message"]
        if path == "/v1/messages":
            assert refused.json()["type"] == "error"
            at = datetime.now(UTC).timestamp() + 41
            reset = datetime.fromisoformat(told(refused, "requests")[2].replace("Z", "+00:00"))
            assert abs(reset.timestamp() - at) < SAFETY
        else:
            assert error["code"] == "rate_limit_exceeded"
            assert told(refused, "requests") == (1, 0, "41s")
        assert len(up.requests) == 1
        now[0] += 41
        assert client.post(path, json=body).status_code == 200


def test_what_reaches_no_engine_does_not_count() -> None:
    path, body = CHAT
    with serving(Key(name="ann", hash=HASH, requests_per_minute=1, tokens_per_minute=90)) as (_, client, _now):
        for wrong in ({"messages": 5}, {**body, "model": "none"}, {**body, "max_tokens": -3}, {**body, "stop": [""]}):
            assert client.post(path, json=wrong).status_code in (400, 404)
        assert client.post("/tokenize", json={"prompt": "hi"}).status_code == 200
        too_long = client.post(path, json={"messages": [{"role": "user", "content": "long " * 90}]})
        assert (too_long.status_code, too_long.headers["x-should-retry"]) == (429, "false")
        assert "retry-after" not in too_long.headers
        assert client.post(path, json=body).status_code == 200
        assert client.post(path, json=body).status_code == 429


def test_the_limits_of_one_key_are_no_others() -> None:
    path, body = CHAT
    with serving(Key(name="ann", hash=HASH, in_flight=1, requests_per_minute=1), keys=["open"]) as (_, client, _now):
        assert client.post(path, json=body).status_code == 200
        assert client.post(path, json=body).status_code == 429
        for _ in range(3):
            other = client.post(path, json=body, headers={"authorization": "Bearer open"})
            assert other.status_code == 200
            assert not [name for name in other.headers if "ratelimit" in name]


def test_a_key_may_use_its_models_alone() -> None:
    path, body = CHAT
    key = Key(name="ann", hash=HASH, models=("ad*",), priority=7)
    with serving(key, names=("tiny", "alias"), adapters=("adapter", "other")) as (up, client, _):
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["adapter"]
        assert client.post(path, json={**body, "model": "adapter"}).status_code == 200
        assert up.requests[-1].priority == 7
        client.post(path, json={**body, "model": "adapter", "priority": 3})
        assert up.requests[-1].priority == 7, "not sooner than others"
        client.post(path, json={**body, "model": "adapter", "priority": 9})
        assert up.requests[-1].priority == 9
        for model in ("tiny", "alias", "other", None):
            for where, asked in ASKED:
                refused = client.post(where, json={**asked, "model": model} if model else asked)
                assert refused.status_code == 403
                assert "may use: ad*" in refused.json()["error"]["message"]
        assert client.get("/v1/models/tiny").status_code == 403
        assert len(up.requests) == 3


def test_what_a_revoked_key_asked_for_is_answered_to_its_end() -> None:
    path, body = CHAT
    turns = threading.Semaphore(2)
    with serving(Key(name="ann", hash=HASH), turns=turns) as (up, client, _):
        with client.stream("POST", path, json={**body, "stream": True}) as answer:
            pieces = answer.iter_lines()
            next(pieces)
            up.door.accept([replace(Key(name="ann", hash=HASH), revoked_at=NOW)], "store")
            assert client.post(path, json=body).status_code == 401
            turns.release(1000)
            rest = [line for line in pieces if line]
        assert rest[-1] == "data: [DONE]"


def test_an_expired_key_says_so() -> None:
    with serving(Key(name="ann", hash=HASH, expires=NOW + 10)) as (_, client, now):
        assert client.get("/v1/models").status_code == 200
        now[0] += 10
        assert "has expired" in client.get("/v1/models").json()["error"]["message"]


def test_embeddings_count() -> None:
    able = frozenset({"generate", "embed"})
    key = Key(name="ann", hash=HASH, tokens_per_day=20)
    with serving(key, capabilities=able, embedding_size=16) as (_, client, _now):
        first = client.post("/v1/embeddings", json={"input": "hello there"})
        assert first.status_code == 200
        used = first.json()["usage"]["prompt_tokens"]
        assert told(first, "tokens")[:2] == (20, 20 - used)
        for _ in range(20):
            last = client.post("/v1/embeddings", json={"input": "hello there"})
        assert last.status_code == 429
        assert int(last.headers["retry-after"]) > 86000


def test_lines_of_batches_wait_for_the_day(tmp_path: Any) -> None:
    key = Key(name="ann", hash=HASH, requests_per_minute=1, tokens_per_day=10_000)
    path, body = CHAT
    with serving(key, store=str(tmp_path / "store.db")) as (_, client, _now):
        lines = [{"custom_id": str(n), "method": "POST", "url": path, "body": body} for n in range(4)]
        upload = {"file": ("lines.jsonl", "\n".join(map(json.dumps, lines)).encode())}
        file = client.post("/v1/files", data={"purpose": "batch"}, files=upload).json()["id"]
        asked = {"input_file_id": file, "endpoint": path, "completion_window": "24h"}
        batch = client.post("/v1/batches", json=asked).json()["id"]
        done: Callable[[], Any] = lambda: client.get(f"/v1/batches/{batch}").json()  # noqa: E731

        until(lambda: done()["status"] == "completed")
        assert done()["request_counts"] == {"total": 4, "completed": 4, "failed": 0}
        answer = client.post(path, json=body)
        assert answer.status_code == 200, "they took none of its requests"
        assert told(answer, "tokens")[1] < 10_000 - 5 * used_of(answer.json()) + 40


async def test_over_grpc() -> None:
    key = Key(name="ann", hash=HASH, requests_per_minute=1)
    async with calling({"a": ANSWER}, people=[key]) as up:
        stub = InferenceStub(up.channel)
        metadata = (("authorization", f"Bearer {SECRET}"),)
        request = pb.ChatRequest(messages=[pb.Message(role="user", content="hi")])
        assert [event async for event in stub.Chat(request, metadata=metadata)]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [event async for event in stub.Chat(request, metadata=metadata)]
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        trailing = dict(refused.value.trailing_metadata() or ())
        assert 1 <= int(str(trailing["retry-after"])) <= 61
