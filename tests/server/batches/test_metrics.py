"""What is counted of batches: lines apart from what somebody waits for, how each came out, what is still to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from support.batches import CHAT, chat_line, create, message_results, wait_for
from support.replay import replaying
from support.wait import until

ANSWERS = {"plain": "It is sunny.", "long": "word " * 60}
WAITS = ("time_to_first_token", "inter_token", "prepare", "request")


class Counted:
    """The server's metrics, read once. ``of(name, label=value…)`` is the sum over what has these labels."""

    def __init__(self, client: httpx.Client) -> None:
        page = client.get("/metrics").text
        self._samples = [one for family in text_string_to_metric_families(page) for one in family.samples]

    def of(self, name: str, **labels: str) -> float:
        return sum(
            one.value for one in self._samples if one.name == f"portico_{name}" and labels.items() <= one.labels.items()
        )


@contextmanager
def serving(store: Path, **settings: Any) -> Iterator[httpx.Client]:
    with replaying(ANSWERS, store=str(store), **settings) as up, httpx.Client(base_url=up.url, timeout=600) as client:
        yield client


def test_lines_are_told_apart_from_what_somebody_waits_for(tmp_path: Path) -> None:
    lines = [chat_line(f"a-{n}", "[[plain]]") for n in range(7)]
    lines[2]["body"]["temperature"] = lines[4]["body"]["temperature"] = "hot"
    lines[5]["body"]["model"] = "nobody"
    with serving(tmp_path / "a.db") as client:
        wait_for(client, create(client, lines))
        found = Counted(client)
        for name in WAITS:
            assert found.of(f"{name}_seconds_count", work="batch") > 0
            if name != "request":
                assert found.of(f"{name}_seconds_count", work="interactive") == 0
        assert found.of("time_to_first_token_seconds_count", work="batch") == 4
        assert found.of("request_seconds_count", work="batch") == 7
        assert found.of("requests_total", work="batch", route=CHAT) == found.of("requests_total", route=CHAT) == 7
        for _ in range(3):
            assert client.post(CHAT, json=lines[0]["body"]).status_code == 200
        found = Counted(client)
        assert found.of("time_to_first_token_seconds_count", work="interactive") == 3
        assert found.of("prepare_seconds_count", work="interactive") == 3
        assert found.of("inter_token_seconds_count", work="interactive") > 0
        assert found.of("requests_total", work="interactive", route=CHAT) == 3
        assert found.of("time_to_first_token_seconds_count", work="batch") == 4

        assert found.of("batch_lines_total", outcome="succeeded", cause="") == 4
        assert found.of("batch_lines_total", outcome="errored") == 3
        told = [json.loads(line) for line in error_lines(client)]
        causes = [one["response"]["body"]["error"]["code"] or "invalid_request_error" for one in told]
        for cause in causes:
            assert found.of("batch_lines_total", outcome="errored", cause=cause) == causes.count(cause)
        assert found.of("batches_total", api="openai", status="completed") == found.of("batches_total") == 1
        wait_for(client, create(client, b"no JSON\n"))
        assert Counted(client).of("batches_total", api="openai", status="failed") == 1


def error_lines(client: httpx.Client) -> list[str]:
    """The error file of the only batch."""
    (batch,) = client.get("/v1/batches").json()["data"]
    return client.get(f"/v1/files/{batch['error_file_id']}/content").text.splitlines()


def test_what_is_to_be_done_and_what_was_given_up(tmp_path: Path) -> None:
    turns = threading.Semaphore(0)
    params = {"model": "tiny", "max_tokens": 5000, "messages": [{"role": "user", "content": "[[long]]"}]}
    asked = {"requests": [{"custom_id": f"b-{n}", "params": params} for n in range(5)]}

    def open_(client: httpx.Client) -> list[float]:
        found = Counted(client)
        return [
            found.of(name, state=state)
            for name in ("batches_open", "batch_lines_open")
            for state in ("running", "waiting")
        ]

    with serving(tmp_path / "a.db", turns=turns, batch_lines=3) as client:
        first = create(client, [chat_line(f"a-{n}", "[[long]]") for n in range(9)])
        until(lambda: open_(client) == [1, 0, 3, 6])
        second = client.post("/v1/messages/batches", json=asked).json()["id"]
        until(lambda: open_(client) == [1, 1, 3, 11])
        client.post(f"/v1/batches/{first}/cancel")
        until(lambda: open_(client) == [1, 0, 3, 2])
        found = Counted(client)
        assert found.of("batch_lines_total", outcome="cancelled") == found.of("batch_lines_total") == 9
        assert found.of("batches_total", api="openai", status="cancelled") == 1
        assert found.of("disconnects_total") == 0, "lines that are left are no clients that left"
        turns.release(10_000)
        path = f"/v1/messages/batches/{second}"
        until(lambda: client.get(path).json()["processing_status"] == "ended")
        message_results(client, client.get(path).json())
        until(lambda: open_(client) == [0, 0, 0, 0])
        assert Counted(client).of("batches_total", api="anthropic", status="completed") == 1
