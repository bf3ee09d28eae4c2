"""Batches as a client makes them: lines, a file of them, the batch, and what came out, held to what always holds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx

from support.wait import SAFETY

__all__ = ["CHAT", "ENDED", "chat_line", "create", "message_results", "outcome", "read_lines", "upload", "wait_for"]

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")


def chat_line(custom_id: str, text: str, **body: Any) -> dict[str, Any]:
    """A line that asks in one message."""
    messages = [{"role": "user", "content": text}]
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"messages": messages, **body}}


def upload(client: httpx.Client, lines: Iterable[Mapping[str, Any]] | bytes) -> str:
    """The id of a file of these lines."""
    data = lines if isinstance(lines, bytes) else b"".join(json.dumps(one).encode() + b"\n" for one in lines)
    answer = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("lines.jsonl", data)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def create(client: httpx.Client, lines: Iterable[Mapping[str, Any]] | bytes, endpoint: str = CHAT, **more: Any) -> str:
    """The id of a batch of these lines."""
    asked = {"input_file_id": upload(client, lines), "endpoint": endpoint, "completion_window": "24h", **more}
    answer = client.post("/v1/batches", json=asked)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def wait_for(client: httpx.Client, id: str, statuses: Sequence[str] = ENDED) -> dict[str, Any]:
    """The batch once it has one of these statuses; on the way its counts never fall."""
    limit, before = time.monotonic() + 5 * SAFETY, 0
    while True:
        found: dict[str, Any] = client.get(f"/v1/batches/{id}").json()
        counts = found["request_counts"]
        assert before <= counts["completed"] + counts["failed"] <= counts["total"]
        before = counts["completed"] + counts["failed"]
        if found["status"] in statuses:
            return found
        assert time.monotonic() < limit, found
        time.sleep(0.05)


def read_lines(client: httpx.Client, id: str | None) -> list[dict[str, Any]]:
    """What is in a file of the batch; nothing where there is none."""
    if id is None:
        return []
    return [json.loads(line) for line in client.get(f"/v1/files/{id}/content").content.splitlines()]


def outcome(client: httpx.Client, batch: Mapping[str, Any], custom_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The line that tells of each request of a batch that has ended. Each has one, in the file where it belongs, in the
    order they were given, and the counts say so."""
    good = read_lines(client, batch.get("output_file_id"))
    bad = read_lines(client, batch.get("error_file_id"))
    counts = batch["request_counts"]
    assert (counts["total"], counts["completed"], counts["failed"]) == (len(custom_ids), len(good), len(bad))
    assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in good)
    assert all(one["error"] is not None or one["response"]["status_code"] >= 400 for one in bad)
    places = {name: place for place, name in enumerate(custom_ids)}
    for lines in (good, bad):
        told = [places[one["custom_id"]] for one in lines]
        assert told == sorted(set(told))
    found = {one["custom_id"]: one for one in (*good, *bad)}
    assert found.keys() == set(custom_ids)
    assert len({one["id"] for one in found.values()}) == len(found)
    return found


def message_results(client: httpx.Client, batch: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The result of each request of a message batch that has ended; the counts say the same."""
    lines = [json.loads(line) for line in client.get(batch["results_url"]).content.splitlines()]
    found = {one["custom_id"]: one["result"] for one in lines}
    assert len(found) == len(lines)
    counts = dict.fromkeys(batch["request_counts"], 0)
    for one in found.values():
        counts[one["type"]] += 1
    assert batch["request_counts"] == counts
    return found
