"""An answer outlives its connection: whoever comes back reads what he has missed, and nobody else reads anything."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest

from portico.server.line import runs
from support.replay import Replaying, replaying

SAFETY = 120
ANSWER = "Grüße! 🦜 It begins well, goes on for a while, and comes to an end."
RESUME = {"X-Portico-Resume": "1"}
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 400},
    "/v1/completions": {"prompt": "Hi", "max_tokens": 400},
}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SAFETY
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def asking(path: str) -> dict[str, Any]:
    return {"model": "tiny", "stream": True, **REQUESTS[path]}


def events(text: str) -> list[str]:
    return [event for event in text.split("\n\n") if event and not event.startswith(":")]


@pytest.mark.parametrize("path", REQUESTS)
def test_every_event_once_and_in_order_wherever_one_comes_back(path: str) -> None:
    with replaying({"a": ANSWER}, resume_grace=SAFETY) as up, httpx.Client(base_url=up.url, timeout=SAFETY) as client:
        whole = client.post(path, json=asking(path), headers=RESUME)
        run, all_events = whole.headers["x-portico-run"], events(whole.text)
        numbers = [int(re.findall(r"^id: (\d+)$", event, re.M)[0]) for event in all_events]
        assert numbers == list(range(1, len(all_events) + 1))
        for after in range(len(all_events) + 1):
            rest = client.get(f"/v1/runs/{run}", params={"after": after})
            assert events(rest.text) == all_events[after:]
        for params in ({}, {"after": 1}):  # browsers come back to the address that they began with
            by_header = client.get(f"/v1/runs/{run}", params=params, headers={"Last-Event-ID": "2"})
            assert events(by_header.text) == all_events[2:]
        plain = client.post(path, json=asking(path))
        assert "x-portico-run" not in plain.headers
        assert "id: " not in plain.text
        assert len(events(plain.text)) == len(all_events)


@pytest.mark.parametrize("path", REQUESTS)
def test_a_client_that_goes_and_comes_back(path: str) -> None:
    with (
        replaying({"a": ANSWER}, resume_grace=SAFETY, interval=0.01) as up,
        httpx.Client(base_url=up.url, timeout=SAFETY) as client,
    ):
        with client.stream("POST", path, json=asking(path), headers=RESUME) as stream:
            run = stream.headers["x-portico-run"]
            read = b""
            for piece in stream.iter_raw():
                read += piece
                if read.count(b"\n\n") >= 3:
                    break
        seen = events(read[: read.rindex(b"\n\n")].decode())
        rest = client.get(f"/v1/runs/{run}", params={"after": len(seen)})
        again = client.get(f"/v1/runs/{run}")
        assert [*seen, *events(rest.text)] == events(again.text)
        assert "end." in "".join(re.findall(r"(?:text|content)\": ?\"([^\"]*)\"", again.text))


def test_an_answer_that_nobody_reads_is_stopped() -> None:
    with (
        replaying({"a": "x" * 4000}, resume_grace=0.2, interval=0.02) as up,
        httpx.Client(base_url=up.url, timeout=SAFETY) as client,
    ):
        with client.stream("POST", "/v1/completions", json=asking("/v1/completions"), headers=RESUME) as stream:
            run = stream.headers["x-portico-run"]
        until(lambda: client.get(f"/v1/runs/{run}", params={"after": 9}).status_code == 404)
        until(lambda: "portico_requests_in_flight 0.0" in client.get("/metrics").text)


def test_a_run_is_its_keys_own_and_can_be_cancelled() -> None:
    with replaying({"a": "x" * 4000}, keys=["one", "two"], resume_grace=SAFETY, interval=0.02) as up:
        mine = httpx.Client(base_url=up.url, timeout=SAFETY, headers={"x-api-key": "one"})
        other = httpx.Client(base_url=up.url, timeout=SAFETY, headers={"x-api-key": "two"})
        with mine, other:
            path = "/v1/completions"
            with mine.stream("POST", path, json=asking(path), headers=RESUME) as stream:
                run = stream.headers["x-portico-run"]
                assert other.get(f"/v1/runs/{run}").status_code == 404
                assert other.delete(f"/v1/runs/{run}").status_code == 404
                ahead = mine.get(f"/v1/runs/{run}", params={"after": 10**9})
                assert (ahead.status_code, ahead.json()["error"]["param"]) == (404, "after")
                assert mine.get(f"/v1/runs/{run}", params={"after": "x"}).status_code == 400
                assert mine.delete(f"/v1/runs/{run}").json()["cancelled"]
                assert '"cancelled"' in stream.read().decode()
            assert '"cancelled"' in mine.get(f"/v1/runs/{run}").text
            assert not mine.delete(f"/v1/runs/{run}").json()["cancelled"], "it was over"


def test_the_log_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MAX_LOG", 2000)
    with replaying({"a": ANSWER}, resume_grace=SAFETY) as up, httpx.Client(base_url=up.url, timeout=SAFETY) as client:
        whole = client.post("/v1/completions", json=asking("/v1/completions"), headers=RESUME)
        run = f"/v1/runs/{whole.headers['x-portico-run']}"
        refused = client.get(run)
        assert refused.status_code == 410
        after = int(re.findall(r"after (\d+)", refused.json()["error"]["message"])[0])
        rest = client.get(run, params={"after": after})
        assert events(rest.text) == events(whole.text)[after:]
        assert len(rest.content) <= 2000


def test_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MAX_RUNS", 1)
    with replaying({"a": ANSWER}, resume_grace=SAFETY) as up, httpx.Client(base_url=up.url, timeout=SAFETY) as client:
        path = "/v1/completions"
        assert client.post(path, json=asking(path), headers=RESUME).status_code == 200
        assert client.post(path, json=asking(path), headers=RESUME).status_code == 503
        assert client.post(path, json=asking(path)).status_code == 200


def test_without_a_grace_there_are_no_runs() -> None:
    with replaying({"a": ANSWER}) as up, httpx.Client(base_url=up.url, timeout=SAFETY) as client:
        answer = client.post("/v1/completions", json=asking("/v1/completions"), headers=RESUME)
        assert "x-portico-run" not in answer.headers
        assert client.get("/v1/runs/run_1").status_code == 404


def test_the_official_clients_do_not_notice() -> None:
    with replaying({"a": ANSWER}, resume_grace=SAFETY) as up:
        assert _openai(up) == ANSWER
        assert _anthropic(up) == ANSWER


def _openai(up: Replaying) -> str:
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key="none", default_headers=RESUME, timeout=SAFETY) as client:
        stream = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}], stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def _anthropic(up: Replaying) -> str:
    with (
        anthropic.Anthropic(base_url=up.url, api_key="none", default_headers=RESUME, timeout=SAFETY) as client,
        client.messages.stream(model="tiny", max_tokens=400, messages=[{"role": "user", "content": "Hi"}]) as stream,
    ):
        return stream.get_final_text()
