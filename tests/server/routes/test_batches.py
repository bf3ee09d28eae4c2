"""Batches over a real server: both SDKs, the law of the body, paging, owners, cancelling, expiry, what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI
from sqlalchemy import Connection, update

from portico.protocols.batches.record import WINDOW
from portico.store import NewLine, StoredBatch, batches, open_store
from portico.store.tables import batch_lines
from support.batches import CHAT, chat_line, create, message_results, outcome, read_lines, upload, wait_for
from support.openapi import assert_valid
from support.replay import Replaying, replaying, stepwise
from support.wait import until

ANSWERS = {
    "plain": "It is sunny. ☀️\n",
    "long": "word " * 60,
    "endless": "word " * 5000,
    "calls": 'A quote: " \\ \u2028.',
}
KEYS = ("first-key", "second-key")
OWNER = hashlib.sha256(KEYS[0].encode()).hexdigest()


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "portico.db"


@pytest.fixture(scope="module")
def server(where: Path) -> Iterator[Replaying]:
    with replaying(ANSWERS, keys=KEYS, store=str(where), max_per_key=2) as up:
        yield up


@pytest.fixture
def client(server: Replaying) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {KEYS[0]}"}, timeout=600) as one:
        yield one


@pytest.fixture
def other(server: Replaying) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {KEYS[1]}"}, timeout=600) as one:
        yield one


@pytest.fixture
def sdk(server: Replaying) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.url + "/v1", api_key=KEYS[0], max_retries=0, timeout=600) as one:
        yield one


@pytest.fixture
def messages(server: Replaying) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key=KEYS[0], max_retries=0, timeout=600) as one:
        yield one


# -- OpenAI's ---------------------------------------------------------------------------------------------------------


def test_the_sdk_makes_polls_lists_and_downloads(sdk: OpenAI) -> None:
    lines = [chat_line(f"a-{n}", f"Hi {n} [[plain]]", model="tiny") for n in range(20)]
    lines[7]["body"]["temperature"] = "hot"
    lines[9]["body"]["model"] = "nobody"
    data = b"\n".join(json.dumps(one).encode() for one in lines) + b"\n\n"
    file = sdk.files.create(file=("lines.jsonl", data), purpose="batch")
    made = sdk.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"of": "the test"},
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert made.status == "validating"
    assert made.expires_at == made.created_at + WINDOW
    while (batch := sdk.batches.retrieve(made.id)).status not in ("completed", "failed"):
        time.sleep(0.02)
    assert_valid("Batch", json.loads(batch.to_json(exclude_unset=True)))
    assert (batch.id, batch.input_file_id, batch.metadata) == (made.id, file.id, {"of": "the test"})
    assert batch.model is None, "its lines ask for two"
    assert batch.in_progress_at
    assert batch.finalizing_at
    assert batch.completed_at
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 20, "completed": 18, "failed": 2}
    assert batch.output_file_id
    assert batch.error_file_id
    told = [json.loads(line) for line in sdk.files.content(batch.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in told] == [f"a-{n}" for n in range(20) if n not in (7, 9)]
    assert {one["response"]["body"]["choices"][0]["message"]["content"] for one in told} == {ANSWERS["plain"]}
    assert len({one["response"]["request_id"] for one in told}) == len(told)
    bad = {
        one["custom_id"]: one["response"]
        for one in map(json.loads, sdk.files.content(batch.error_file_id).text.splitlines())
    }
    assert {name: one["status_code"] for name, one in bad.items()} == {"a-7": 400, "a-9": 404}
    assert bad["a-7"]["body"]["error"]["param"] == "temperature"
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum(one["response"]["body"]["usage"]["completion_tokens"] for one in told)
    assert batch.usage.total_tokens == sum(one["response"]["body"]["usage"]["total_tokens"] for one in told)
    for id in (batch.output_file_id, batch.error_file_id):
        kept = sdk.files.retrieve(id)
        assert kept.purpose == "batch_output"
        assert kept.expires_at == kept.created_at + 3600
    assert next(one.id for one in sdk.batches.list(limit=1)) == made.id
    with pytest.raises(openai.BadRequestError, match="completed"):
        sdk.batches.cancel(made.id)


def masked(body: bytes) -> bytes:
    """A body without ids and times."""
    return re.sub(rb'"(id|created|created_at|completed_at|response_id)":("[^"]*"|[\d.]+)|req_\w+', b"", body)


def bodies_of(client: httpx.Client, batch: dict[str, Any]) -> dict[str, bytes]:
    """The bodies in both files of a batch as they stand there, by the ``custom_id`` of their lines."""
    found = {}
    for id in filter(None, (batch.get("output_file_id"), batch.get("error_file_id"))):
        for line in client.get(f"/v1/files/{id}/content").content.splitlines():
            (body,) = re.findall(
                rb'^\{"id":"[^"]*","custom_id":"[^"]*","response":\{.*?"body":(.*)\},"error":null\}$', line
            )
            found[json.loads(line)["custom_id"]] = body
    return found


ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "[[calls]]"}], "logprobs": True, "n": 2},
    "/v1/completions": {"prompt": ["[[plain]]", "[[calls]]"], "echo": True},
    "/v1/responses": {"input": "[[calls]]", "metadata": {"a": "b"}},
    "/v1/messages": {"messages": [{"role": "user", "content": "[[plain]]"}], "max_tokens": 50},
    "/v1/embeddings": {"input": "refused: this model makes none"},
    "/v1/score": {"text_1": "a", "text_2": "b"},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_lines_body_is_what_the_endpoint_gives(client: httpx.Client, endpoint: str) -> None:
    """Byte for byte, ids and times apart; what it refuses too."""
    bodies = [ENDPOINTS[endpoint], {"nonsense": True}, {**ENDPOINTS[endpoint], "model": "nobody"}]
    lines = [{"custom_id": str(n), "method": "POST", "url": endpoint, "body": body} for n, body in enumerate(bodies)]
    batch = wait_for(client, create(client, lines, endpoint))
    told = outcome(client, batch, ["0", "1", "2"])
    raw = bodies_of(client, batch)
    for number, body in enumerate(bodies):
        direct = client.post(endpoint, json=body)
        assert told[str(number)]["response"]["status_code"] == direct.status_code
        assert masked(raw[str(number)]) == masked(direct.content)


def test_wrong_lines_fail_the_batch_and_none_is_run(client: httpx.Client, server: Replaying) -> None:
    before = len(server.prompts)
    lines = [chat_line("a", "[[plain]]"), chat_line("a", "again"), chat_line("b", "x", stream=True)]
    batch = wait_for(client, create(client, lines))
    assert batch["status"] == "failed"
    assert batch["failed_at"] >= batch["created_at"]
    assert_valid("Batch", batch)
    found = [(one["code"], one["line"], one["param"]) for one in batch["errors"]["data"]]
    assert found == [("duplicate_custom_id", 2, "custom_id"), ("invalid_body", 3, "body.stream")]
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert "output_file_id" not in batch
    assert "error_file_id" not in batch
    assert len(server.prompts) == before


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no file": ({"input_file_id": None}, 400, "input_file_id"),
    "an unknown file": ({"input_file_id": "file-none"}, 404, "input_file_id"),
    "another endpoint": ({"endpoint": "/v1/moderations"}, 400, "endpoint"),
    "another window": ({"completion_window": "1h"}, 400, "completion_window"),
    "no window": ({"completion_window": None}, 400, "completion_window"),
    "metadata of numbers": ({"metadata": {"a": 1}}, 400, "metadata.a"),
    "too soon": ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "output_expires_after.seconds"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_batch_is_refused(client: httpx.Client, name: str) -> None:
    changes, status, param = REFUSED[name]
    asked = {
        "input_file_id": upload(client, [chat_line("a", "x")]),
        "endpoint": CHAT,
        "completion_window": "24h",
        **changes,
    }
    answer = client.post("/v1/batches", json={name: value for name, value in asked.items() if value is not None})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_a_file_for_something_else_is_refused(client: httpx.Client) -> None:
    file = client.post("/v1/files", data={"purpose": "evals"}, files={"file": ("a", b"{}")}).json()["id"]
    answer = client.post("/v1/batches", json={"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input_file_id")


def test_two_keys_never_see_each_other(client: httpx.Client, other: httpx.Client) -> None:
    mine = wait_for(client, create(client, [chat_line("a", "[[plain]]")]))
    asked = {
        "requests": [{"custom_id": "a", "params": {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}}]
    }
    theirs = other.post("/v1/messages/batches", json=asked).json()["id"]
    for method, path, who in (
        ("GET", f"/v1/batches/{mine['id']}", other),
        ("POST", f"/v1/batches/{mine['id']}/cancel", other),
        ("GET", f"/v1/files/{mine['output_file_id']}", other),
        ("GET", f"/v1/files/{mine['output_file_id']}/content", other),
        ("GET", f"/v1/messages/batches/{theirs}", client),
        ("GET", f"/v1/messages/batches/{theirs}/results", client),
        ("POST", f"/v1/messages/batches/{theirs}/cancel", client),
        ("DELETE", f"/v1/messages/batches/{theirs}", client),
        ("GET", f"/v1/batches/{theirs}", other),  # nor one API the other's
        ("GET", f"/v1/messages/batches/{mine['id']}", client),
    ):
        assert who.request(method, path).status_code == 404, path
    assert other.get("/v1/batches").json() == {"object": "list", "data": [], "has_more": False}
    assert client.get("/v1/messages/batches", params={"after_id": theirs}).status_code == 400
    file = {"input_file_id": mine["input_file_id"], "endpoint": CHAT, "completion_window": "24h"}
    assert other.post("/v1/batches", json=file).status_code == 404


def test_lists_are_paged_newest_first(client: httpx.Client, sdk: OpenAI, messages: Anthropic) -> None:
    """Both APIs, both ways, in pages of any size."""
    file = upload(client, [chat_line("a", "[[plain]]")])
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    made = [client.post("/v1/batches", json=asked).json()["id"] for _ in range(5)][::-1]
    for limit in (1, 2, 100):
        found = [one.id for one in sdk.batches.list(limit=limit)]
        assert found[:5] == made
    last = client.get("/v1/batches", params={"after": made[-2], "limit": 1}).json()
    assert [one["id"] for one in last["data"]] == [last["first_id"]] == [last["last_id"]] == [made[-1]]
    for params in ({"limit": 0}, {"limit": 101}, {"limit": "x"}):
        assert client.get("/v1/batches", params=params).status_code == 400
    assert client.get("/v1/batches", params={"after": "batch_none"}).status_code == 404
    params: Any = {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "model": "tiny"}
    sent = [messages.messages.batches.create(requests=[{"custom_id": "a", "params": params}]).id for _ in range(5)][
        ::-1
    ]
    everything = [one.id for one in messages.messages.batches.list(limit=1000)]
    assert everything[:5] == sent
    for limit in (1, 2, 3):
        assert [one.id for one in messages.messages.batches.list(limit=limit)] == everything
        before = [one.id for one in messages.messages.batches.list(limit=limit, before_id=sent[-1])]
        assert sorted(before) == sorted(sent[:-1])
        page = client.get("/v1/messages/batches", params={"before_id": sent[3], "limit": limit}).json()
        assert [one["id"] for one in page["data"]] == sent[3 - limit : 3]
        assert page["has_more"] == (limit < 3)
        assert (page["first_id"], page["last_id"]) == (sent[3 - limit], sent[2])
    for wrong in ({"limit": 0}, {"limit": 1001}, {"after_id": "x"}, {"before_id": sent[0], "after_id": sent[1]}):
        answer = client.get("/v1/messages/batches", params=wrong)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


# -- Anthropic's ------------------------------------------------------------------------------------------------------


def test_the_other_sdk_makes_polls_and_reads_results(messages: Anthropic) -> None:
    def params(text: str, **more: Any) -> Any:
        return {"model": "tiny", "max_tokens": 50, "messages": [{"role": "user", "content": text}], **more}

    made = messages.messages.batches.create(
        requests=[
            {"custom_id": "good", "params": params("[[plain]]")},
            {"custom_id": "bad", "params": params("x", max_tokens=0.5)},
            *({"custom_id": f"more-{n}", "params": params("[[plain]]")} for n in range(5)),
        ]
    )
    assert (made.processing_status, made.results_url, made.ended_at) == ("in_progress", None, None)
    assert made.request_counts.to_dict() == {
        "processing": 7, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0
    }  # fmt: skip
    assert (made.expires_at - made.created_at).total_seconds() == WINDOW
    while (batch := messages.messages.batches.retrieve(made.id)).processing_status != "ended":
        assert batch.request_counts.processing == 7
        time.sleep(0.02)
    assert batch.request_counts.to_dict() == {
        "processing": 0, "succeeded": 6, "errored": 1, "canceled": 0, "expired": 0
    }  # fmt: skip
    assert batch.ended_at is not None
    found = {one.custom_id: one.result for one in messages.messages.batches.results(made.id)}
    good, bad = found["good"], found["bad"]
    assert good.type == "succeeded"
    assert good.message.content[0].text == ANSWERS["plain"]  # type: ignore[union-attr]
    assert bad.type == "errored"
    assert bad.error.error.type == "invalid_request_error"
    assert "max_tokens" in bad.error.error.message
    canceled = messages.messages.batches.cancel(made.id)
    assert canceled.processing_status == "ended", "it had ended; nothing changes"
    assert messages.messages.batches.delete(made.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        messages.messages.batches.retrieve(made.id)


HOSTS: dict[str, tuple[dict[str, str], str]] = {
    "as it is": ({}, ""),
    "a name": ({"host": "models.example:8443"}, "http://models.example:8443"),
    "a proxy": (
        {"host": "inner", "x-forwarded-proto": "https", "x-forwarded-host": "api.example"},
        "https://api.example",
    ),
    "two proxies": ({"x-forwarded-proto": "https, http", "x-forwarded-host": "a.example, b"}, "https://a.example"),
    "six": ({"host": "[::1]:80"}, "http://[::1]:80"),
    "nonsense": ({"x-forwarded-proto": "javascript", "x-forwarded-host": "a/b?{c}"}, ""),
}


@pytest.mark.parametrize("name", HOSTS)
def test_results_are_where_the_client_reaches_the_server(client: httpx.Client, server: Replaying, name: str) -> None:
    headers, origin = HOSTS[name]
    asked = {
        "requests": [{"custom_id": "a", "params": {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}}]
    }
    path = f"/v1/messages/batches/{client.post('/v1/messages/batches', json=asked).json()['id']}"
    until(lambda: client.get(path).json()["processing_status"] == "ended")
    assert client.get(path, headers=headers).json()["results_url"] == f"{origin or server.url}{path}/results"


def test_a_message_batch_is_refused_in_its_own_shape(client: httpx.Client) -> None:
    answer = client.post("/v1/messages/batches", json={"requests": [{"custom_id": "a b", "params": {}}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "requests[0].custom_id" in answer.json()["error"]["message"]


# -- what is not run to its end ---------------------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[Replaying, httpx.Client, threading.Semaphore]]:
    """A server of which the engine makes a step when the semaphore is released."""
    with stepwise(ANSWERS, tmp_path) as running:
        yield running


def test_a_batch_leaves_room_for_others(slow: tuple[Replaying, httpx.Client, threading.Semaphore]) -> None:
    """Its lines go behind all others, and no more run than are allowed together."""
    up, client, turns = slow
    names = [f"a-{n}" for n in range(9)]
    id = create(client, [chat_line(name, f"{name} [[long]]") for name in names])
    until(lambda: len(up.requests) == 3)
    answers: list[httpx.Response] = []
    ask = threading.Thread(
        target=lambda: answers.append(client.post(CHAT, json=chat_line("", "mine [[plain]]")["body"]))
    )
    ask.start()
    until(lambda: len(up.requests) == 4)
    assert [one.priority for one in up.requests[:3]] == [up.requests[0].priority] * 3
    assert up.requests[0].priority > up.requests[3].priority
    while not answers:
        turns.release()
        time.sleep(0.005)
    ask.join()
    turns.release(10_000)
    outcome(client, wait_for(client, id), names)


def test_cancelling_keeps_what_is_done(slow: tuple[Replaying, httpx.Client, threading.Semaphore]) -> None:
    up, client, turns = slow
    names = [f"a-{n}" for n in range(9)]
    lines = [chat_line(name, "[[plain]]" if n < 2 else "[[endless]]") for n, name in enumerate(names)]
    id = create(client, lines)
    until(lambda: len(up.requests) == 3)
    while client.get(f"/v1/batches/{id}").json()["request_counts"]["completed"] < 2:
        turns.release()
        time.sleep(0.005)
    asked = client.post(f"/v1/batches/{id}/cancel").json()
    assert asked["status"] in ("cancelling", "cancelled")
    assert asked["cancelling_at"]
    batch = wait_for(client, id)
    assert batch["status"] == "cancelled"
    assert_valid("Batch", batch)
    told = outcome(client, batch, names)
    assert [name for name in names if told[name]["error"] is None] == ["a-0", "a-1"]
    assert {told[name]["error"]["code"] for name in names[2:]} == {"batch_cancelled"}
    assert client.post(f"/v1/batches/{id}/cancel").status_code == 400, "it has ended"


def test_whenever_it_is_cancelled_each_line_has_one_result(client: httpx.Client) -> None:
    """While its file is read, while lines run, while the results are put together: the counts add up."""
    draw = random.Random(19)
    names = [f"a-{n}" for n in range(40)]
    params = {"model": "tiny", "max_tokens": 50, "messages": [{"role": "user", "content": "[[plain]]"}]}
    asked = {"requests": [{"custom_id": name, "params": params} for name in names]}
    ends = set()
    for _ in range(10):
        id = create(client, [chat_line(name, "[[plain]]") for name in names])
        message = client.post("/v1/messages/batches", json=asked).json()["id"]
        time.sleep(draw.random() * 0.2)
        client.post(f"/v1/batches/{id}/cancel")
        client.post(f"/v1/messages/batches/{message}/cancel")
        batch = wait_for(client, id)
        ends.add(batch["status"])
        errors = [one["error"]["code"] for one in outcome(client, batch, names).values() if one["error"] is not None]
        assert errors == ["batch_cancelled"] * batch["request_counts"]["failed"]
        path = f"/v1/messages/batches/{message}"
        until(lambda path=path: client.get(path).json()["processing_status"] == "ended")  # type: ignore[misc]
        assert message_results(client, client.get(path).json()).keys() == set(names)
    assert ends <= {"cancelled", "completed"}


def test_what_expires_while_it_runs_keeps_what_is_done(
    slow: tuple[Replaying, httpx.Client, threading.Semaphore], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client, turns = slow
    ahead = 0
    monkeypatch.setattr("portico.server.batches.job.time", SimpleNamespace(time=lambda: time.time() + ahead))
    names = [f"a-{n}" for n in range(9)]
    id = create(client, [chat_line(name, "[[plain]]" if n < 2 else "[[endless]]") for n, name in enumerate(names)])
    while client.get(f"/v1/batches/{id}").json()["request_counts"]["completed"] < 2:
        turns.release()
        time.sleep(0.005)
    ahead = WINDOW
    batch = wait_for(client, id)
    assert batch["status"] == "expired"
    assert_valid("Batch", batch)
    told = outcome(client, batch, names)
    assert [name for name in names if told[name]["error"] is None] == ["a-0", "a-1"]
    assert {told[name]["error"]["code"] for name in names[2:]} == {"batch_expired"}


def test_a_canceled_message_batch_keeps_what_is_done(
    slow: tuple[Replaying, httpx.Client, threading.Semaphore],
) -> None:
    up, client, _ = slow
    params = {"model": "tiny", "max_tokens": 5000, "messages": [{"role": "user", "content": "[[long]]"}]}
    asked = {"requests": [{"custom_id": f"a-{n}", "params": params} for n in range(5)]}
    id = client.post("/v1/messages/batches", json=asked).json()["id"]
    until(lambda: len(up.requests) == 3)
    assert client.get(f"/v1/messages/batches/{id}/results").status_code == 404
    assert client.delete(f"/v1/messages/batches/{id}").status_code == 400
    canceled = client.post(f"/v1/messages/batches/{id}/cancel").json()
    assert canceled["cancel_initiated_at"]
    until(lambda: client.get(f"/v1/messages/batches/{id}").json()["processing_status"] == "ended")
    batch = client.get(f"/v1/messages/batches/{id}").json()
    assert {one["type"] for one in message_results(client, batch).values()} == {"canceled"}


def test_what_has_expired_keeps_what_is_done(where: Path, server: Replaying, client: httpx.Client) -> None:
    """A batch whose window ended while nobody ran it: what had come out is there, the rest was never run."""
    done = wait_for(client, create(client, [chat_line("x", "[[plain]]")]))
    result = json.dumps(read_lines(client, done["output_file_id"])[0]).replace('"x"', '"a-0"').encode()

    async def make() -> str:
        store = open_store(str(where))
        await store.start()
        try:
            old = int(time.time()) - WINDOW - 10
            body = {"endpoint": CHAT, "expires_at": old + WINDOW, "input_file_id": "file-x", "total": 3}
            lines = [NewLine(n, n, json.dumps(chat_line(f"a-{n}", "x")).encode()) for n in range(3)]
            batch = StoredBatch(
                id="batch_old", owner=OWNER, kind="openai", created_at=old, status="in_progress", body=body
            )

            def put(connection: Connection) -> None:
                batches._create(connection, batch, lines)
                connection.execute(
                    update(batch_lines)
                    .where(batch_lines.c.batch_id == batch.id, batch_lines.c.number == 0)
                    .values(outcome="succeeded", result=result)
                )

            await store.database.write(put)
            return batch.id
        finally:
            await store.close()

    batch = wait_for(client, asyncio.run(make()))
    assert batch["status"] == "expired"
    told = outcome(client, batch, ["a-0", "a-1", "a-2"])
    assert told["a-0"]["error"] is None
    assert {told[name]["error"]["code"] for name in ("a-1", "a-2")} == {"batch_expired"}


def test_without_a_store_it_says_what_to_set() -> None:
    with replaying(ANSWERS) as up, httpx.Client(base_url=up.url, timeout=600) as client:
        for method, path, body in (
            ("POST", "/v1/batches", {"input_file_id": "x", "endpoint": CHAT, "completion_window": "24h"}),
            ("GET", "/v1/batches", None),
            ("GET", "/v1/messages/batches/x", None),
        ):
            answer = client.request(method, path, json=body)
            assert answer.status_code == 404
            assert "--store" in answer.json()["error"]["message"]
