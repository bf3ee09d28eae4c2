"""What the page of batches asks for: the batches of one key, of both APIs, as their own APIs tell them and before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.batches import chat_line, create, message_results, wait_for
from support.replay import replaying, stepwise
from support.wait import until

ANSWERS = {"plain": "It is sunny.", "endless": "word " * 5000}
KEYS = ("first-key", "second-key")
JOBS = "/batches/jobs"


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[httpx.Client]]:
    store = tmp_path_factory.mktemp("store") / "a.db"
    with replaying(ANSWERS, keys=KEYS, store=str(store)) as up:
        found = [httpx.Client(base_url=up.url, headers={"authorization": f"Bearer {key}"}, timeout=600) for key in KEYS]
        yield found
        for one in found:
            one.close()


def message_batch(client: httpx.Client, *texts: str, **params: Any) -> str:
    """The id of a message batch that asks these."""
    asked = [
        {
            "custom_id": f"m-{n}",
            "params": {
                **{"model": "tiny", "max_tokens": 500, "messages": [{"role": "user", "content": text}]},
                **params,
            },
        }
        for n, text in enumerate(texts)
    ]
    return str(client.post("/v1/messages/batches", json={"requests": asked}).json()["id"])


def ended(client: httpx.Client, id: str) -> dict[str, Any]:
    """What the page has of a batch once it has ended."""
    until(lambda: client.get(f"{JOBS}/{id}").json()["ended_at"] is not None)
    found: dict[str, Any] = client.get(f"{JOBS}/{id}").json()
    return found


def test_each_key_gets_its_own_of_both_apis_newest_first(clients: list[httpx.Client]) -> None:
    made: list[list[str]] = [[], []]
    for n in range(3):
        for client, ids in zip(clients, made, strict=True):
            ids.append(create(client, [chat_line("a", "[[plain]]")]))
            ids.append(message_batch(client, *["[[plain]]"] * (n + 1)))
    for client, ids in zip(clients, made, strict=True):
        whole = client.get(JOBS).json()
        found = [one["id"] for one in whole["batches"]]
        assert sorted(found) == sorted(ids)
        ages = [one["created_at"] for one in whole["batches"]]
        assert ages == sorted(ages, reverse=True)
        assert not whole["has_more"]
        for limit in (1, 4, 6):
            page = client.get(JOBS, params={"limit": limit}).json()
            assert [one["id"] for one in page["batches"]] == found[:limit]
            assert page["has_more"] == (limit < 6)
    for other in made[1]:
        assert clients[0].get(f"{JOBS}/{other}").status_code == 404
        assert clients[1].get(f"{JOBS}/{other}").status_code == 200
    for limit in ("0", "1001", "x", "-1", "²"):
        refused = clients[0].get(JOBS, params={"limit": limit})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "limit")


def test_pages_need_no_key_and_what_they_show_does(clients: list[httpx.Client]) -> None:
    url = clients[0].base_url
    page = httpx.get(url.join("/batches"))
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert httpx.get(url.join("/assets/batches/batches.js")).status_code == 200
    for path in (JOBS, f"{JOBS}/any"):
        for headers in ({}, {"x-api-key": "wrong"}):
            assert httpx.get(url.join(path), headers=headers).status_code == 401


def test_it_is_what_the_apis_tell(clients: list[httpx.Client]) -> None:
    """Counts, files, problems and tokens; and why lines failed, which no API counts."""
    client = clients[0]
    lines = [chat_line(f"a-{n}", "[[plain]]", model="tiny") for n in range(9)]
    for n in (3, 5, 8):
        lines[n]["body"]["temperature"] = "hot"
    lines[6]["body"]["model"] = "nobody"
    batch = wait_for(client, create(client, lines, metadata={"of": "the test"}))
    found = ended(client, batch["id"])
    counts = batch["request_counts"]
    assert [found[name] for name in ("total", "succeeded", "errored", "cancelled", "expired")] == [9, 5, 4, 0, 0]
    assert (counts["total"], counts["completed"], counts["failed"]) == (9, 5, 4)
    assert found["failures"] == {"invalid_type": 3, "model_not_found": 1}
    assert [(one["cause"], one["custom_id"]) for one in found["examples"]] == [
        ("invalid_type", "a-3"),
        ("model_not_found", "a-6"),
    ]
    assert "temperature" in found["examples"][0]["message"]
    assert (found["status"], found["metadata"], found["cancel"]) == ("completed", {"of": "the test"}, None)
    assert (found["began_at"], found["ended_at"]) == (batch["in_progress_at"], batch["completed_at"])
    assert found["usage"]["output"] == batch["usage"]["output_tokens"]
    paths = {one["name"]: one["path"] for one in found["files"]}
    assert paths == {name: f"/v1/files/{batch[f'{name}_file_id']}/content" for name in ("input", "output", "error")}
    listed = next(one for one in client.get(JOBS).json()["batches"] if one["id"] == batch["id"])
    assert listed.items() <= found.items()

    failed = wait_for(client, create(client, b"no JSON\n"))
    assert ended(client, failed["id"])["problems"] == [{**one, "param": None} for one in failed["errors"]["data"]]

    id = message_batch(client, "[[plain]]", "[[plain]]", max_tokens=0.5)
    found = ended(client, id)
    assert (found["api"], found["errored"], found["failures"]) == ("anthropic", 2, {"invalid_request_error": 2})
    assert found["examples"][0]["custom_id"] == "m-0"
    assert "max_tokens" in found["examples"][0]["message"]
    told = client.get(f"/v1/messages/batches/{id}").json()
    assert [one["path"] for one in found["files"]] == [httpx.URL(told["results_url"]).path]
    message_results(client, told)


def test_what_runs_is_counted_and_what_waits_is_not_begun(tmp_path: Path) -> None:
    with stepwise(ANSWERS, tmp_path, batch_lines=2) as (_, client, turns):

        def heads() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = client.get(JOBS).json()["batches"]
            return found

        first = message_batch(client, "[[plain]]", "[[plain]]", "[[endless]]", "[[endless]]")
        second = message_batch(client, "[[plain]]")
        until(lambda: heads()[1]["began_at"] is not None)
        waits, runs = heads()
        assert (waits["id"], waits["status"], waits["began_at"], waits["total"]) == (second, "in_progress", None, 1)
        assert (runs["id"], runs["succeeded"], runs["ended_at"]) == (first, 0, None)
        while heads()[1]["succeeded"] < 2:
            turns.release()
            time.sleep(0.01)
        assert client.get(f"/v1/messages/batches/{first}").json()["request_counts"]["succeeded"] == 0
        assert client.get(f"{JOBS}/{first}").json()["files"] == []
        cancel = client.get(f"{JOBS}/{first}").json()["cancel"]
        assert client.post(cancel).json()["cancel_initiated_at"]
        found = ended(client, first)
        assert [found[name] for name in ("status", "succeeded", "cancelled")] == ["cancelled", 2, 2]
        turns.release(10_000)
        assert ended(client, second)["began_at"] >= found["began_at"]


def test_without_a_store_it_says_why() -> None:
    with replaying(ANSWERS) as up:
        found = httpx.get(up.url + JOBS).json()
        assert found["batches"] is None
        assert "--store" in found["why"]
        assert httpx.get(f"{up.url}{JOBS}/x").status_code == 404
