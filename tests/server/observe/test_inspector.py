"""Who may see what was recorded, what is never recorded, and how long a follower is followed."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from portico.config import load_settings
from portico.engines.replay import Script
from portico.errors import BadRequestError
from portico.server.process.lifecycle import serve
from support.generation import tiny_tokenizer
from support.replay import Replaying, replaying
from support.server import running_server
from support.trace import ANSWERS, CHAT, WEATHER, asking
from support.wait import SAFETY

TRACE_ID = "x-portico-trace-id"


def ask(server: Replaying, name: str = "plain", path: str = CHAT, headers: Any = None, **more: Any) -> httpx.Response:
    return httpx.post(server.url + path, json=asking(name, **more), headers=headers or {}, timeout=120)


class TestWhatIsRecorded:
    def test_everything_with_inspect(self) -> None:
        with replaying(ANSWERS, inspect=True) as up:
            ids = [ask(up).headers[TRACE_ID] for _ in range(3)]
            httpx.get(up.url + "/health")
            httpx.get(up.url + "/v1/models")
            traces = httpx.get(up.url + "/inspect/traces").json()["traces"]
        assert [one["id"] for one in traces] == ids[::-1]

    def test_nothing_without(self) -> None:
        with replaying(ANSWERS) as up:
            response = ask(up, headers={"x-portico-trace": "1"})
            assert TRACE_ID not in response.headers
            for path in ("/inspect", "/play", "/inspect/traces", "/inspect/live"):
                assert httpx.get(up.url + path).status_code == 404

    def test_what_asks_for_it_where_that_is_allowed(self) -> None:
        with replaying(ANSWERS, trace_header=True) as up:
            assert TRACE_ID not in ask(up).headers
            assert TRACE_ID not in ask(up, headers={"x-portico-trace": "0"}).headers
            id = ask(up, headers={"x-portico-trace": "1"}).headers[TRACE_ID]
            assert httpx.get(f"{up.url}/inspect/traces/{id}").json()["trace"]["state"] == "ok"
            for path in ("/inspect", "/play", "/inspect/traces", "/inspect/live"):  # nobody sees others' requests
                assert httpx.get(up.url + path).status_code == 404

    def test_by_the_requests_own_id(self) -> None:
        with replaying(ANSWERS, inspect=True) as up:
            ask(up, headers={"x-request-id": "mine"})
            last = ask(up, headers={"x-request-id": "mine"}).headers[TRACE_ID]
            assert httpx.get(up.url + "/inspect/traces/mine").json()["trace"]["id"] == last
            assert httpx.get(up.url + "/inspect/traces/nobodys").status_code == 404

    def test_the_last_ones(self) -> None:
        with replaying(ANSWERS, inspect=True, keep=3) as up:
            ids = [ask(up).headers[TRACE_ID] for _ in range(5)]
            traces = httpx.get(up.url + "/inspect/traces").json()["traces"]
            assert [one["id"] for one in traces] == ids[:1:-1]
            gone = httpx.get(f"{up.url}/inspect/traces/{ids[0]}")
            assert (gone.status_code, gone.json()["error"]["code"]) == (404, "trace_not_found")

    def test_where_the_time_went(self) -> None:
        with replaying(ANSWERS, inspect=True) as up:
            id = ask(up).headers[TRACE_ID]
            head = httpx.get(f"{up.url}/inspect/traces/{id}").json()["trace"]
        assert list(head["stages"]) == ["read", "validate", "template", "tokenize", "constrain", "check", "admit"]
        assert 0 < sum(head["stages"].values()) <= head["seconds"]
        assert 0 < head["first_token"] <= head["seconds"]


class TestWhoMaySee:
    @pytest.fixture(scope="class")
    @classmethod
    def keyed(cls) -> Iterator[Replaying]:
        with replaying(ANSWERS, inspect=True, keys=["a key"]) as up:
            yield up

    def test_pages_need_no_key_and_data_does(self, keyed: Replaying) -> None:
        id = ask(keyed, headers={"authorization": "Bearer a key"}).headers[TRACE_ID]
        for path in ("/inspect", "/play"):
            page = httpx.get(keyed.url + path)
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert "default-src 'self'" in page.headers["content-security-policy"]
        for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', httpx.get(keyed.url + "/inspect").text):
            assert httpx.get(keyed.url + asset).status_code == 200
        for path in ("traces", "live", f"traces/{id}", f"traces/{id}/live"):
            assert httpx.get(f"{keyed.url}/inspect/{path}").status_code == 401
            wrong = httpx.get(f"{keyed.url}/inspect/{path}", headers={"x-api-key": "no key"})
            assert wrong.status_code == 401
        for key in ({"authorization": "Bearer a key"}, {"x-api-key": "a key"}):
            assert httpx.get(f"{keyed.url}/inspect/traces/{id}", headers=key).status_code == 200

    def test_what_is_refused_at_the_door_is_not_recorded(self, keyed: Replaying) -> None:
        assert TRACE_ID not in ask(keyed).headers

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", ""])
    def test_without_keys_under_a_loopback_name_only(self, host: str) -> None:
        with replaying(ANSWERS, inspect=True) as up:
            id = ask(up).headers[TRACE_ID]
            for path in ("traces", "live", f"traces/{id}", f"traces/{id}/live"):
                refused = httpx.get(f"{up.url}/inspect/{path}", headers={"host": host})
                assert refused.status_code in (400, 403)  # an empty Host is no HTTP/1.1
            port = up.url.rpartition(":")[2]
            for name in ("localhost", f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "127.8.8.8"):
                assert httpx.get(f"{up.url}/inspect/traces/{id}", headers={"host": name}).status_code == 200

    def test_with_keys_under_any_name(self, keyed: Replaying) -> None:
        headers = {"host": "models.example", "authorization": "Bearer a key"}
        assert httpx.get(keyed.url + "/inspect/traces", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"inspect": True, "host": "0.0.0.0"}, "--api-key"),
            ({"trace_header": True, "host": "0.0.0.0"}, "--api-key"),
            ({"inspect": True, "host": "0.0.0.0", "insecure": True}, "--api-key"),
        ],
    )
    def test_what_does_not_start(self, settings: dict[str, Any], told: str) -> None:

        with pytest.raises(BadRequestError, match=told):
            serve(load_settings(settings))


SECRETS = {
    "authorization": "Bearer quixotic",
    "x-api-key": "quixotic",
    "api-key": "quixotic",
    "x-goog-api-key": "quixotic",
    "cookie": "session=quixotic",
    "proxy-authorization": "Basic quixotic",
    "x-auth-token": "quixotic",
    "x-amz-security-token": "quixotic",
    "x-client-secret": "quixotic",
}


class TestWhatIsNeverRecorded:
    def test_secret_headers(self) -> None:
        with replaying(ANSWERS, inspect=True) as up:
            id = ask(up, headers=SECRETS).headers[TRACE_ID]
            recorded = httpx.get(f"{up.url}/inspect/traces/{id}").text
        assert "quixotic" not in recorded
        for name in SECRETS:
            assert name in recorded

    @pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/completions"])
    @pytest.mark.parametrize("stream", [True, False])
    def test_words_of_a_redacted_request(self, path: str, stream: bool) -> None:
        """No word of prompt or answer, whatever becomes of the request."""
        call = '<tool_call>{"name": "zugzwang", "arguments": {"piece": "zwischenzug"}}</tool_call>'
        answers = {
            "all": f"<think>kibitzer</think>patzer 🦜 fianchetto\n\n{call} <tool_cal",
            "fails": Script(tuple(tiny_tokenizer().encode("patzer")), "error", error="The engine lost it."),
        }
        words = ("zugzwang", "zwischenzug", "kibitzer", "patzer", "fianchetto", "tempo", "prophylaxis", "luft", "🦜")
        tool = {"name": "zugzwang", "description": "prophylaxis", "parameters": {"type": "object"}}
        more: dict[str, Any] = {"tools": [{"type": "function", "function": tool}], "stop": ["fianchetto"]}
        if path == "/v1/messages":
            schema = {"type": "object", "properties": {"piece": {"type": "string"}}}
            more = {"tools": [{"name": "zugzwang", "description": "prophylaxis", "input_schema": schema}]}
            more["stop_sequences"] = ["fianchetto"]
        if path == "/v1/completions":
            more = {"stop": ["fianchetto"], "logprobs": 1, "echo": True}
        with replaying(answers, inspect=True, redact=True, tool_parser="hermes", reasoning_parser="qwen3") as up:
            for name in answers:
                for change in ({}, {"tempo": 1}, {"temperature": "luft"}, {"tool_choice": {"type": "tempo"}},
                               {"response_format": {"type": "json_schema", "json_schema": {
                                   "name": "luft", "schema": {"properties": {"tempo": {"type": "luft"}}}}}},
                               {"model": "nobody"}):  # fmt: skip
                    body = {**asking(name, stream=stream, **more), **change}
                    if path == "/v1/completions":
                        body["prompt"] = f"prophylaxis [[{name}]]"
                        del body["messages"]
                    else:
                        body["messages"] = [{"role": "user", "content": f"prophylaxis [[{name}]]"}]
                    response = httpx.post(up.url + path, json=body, headers={"user-agent": "test"}, timeout=120)
                    id = response.headers[TRACE_ID]
                    shown = httpx.get(f"{up.url}/inspect/traces/{id}").text
                    live = httpx.get(f"{up.url}/inspect/traces/{id}/live").text.splitlines()
                    values = [shown, *(line[6:] for line in live if line.startswith("data: "))]
                    shown = json.dumps([json.loads(value) for value in values], ensure_ascii=False)
                    artifacts = httpx.get(f"{up.url}/inspect/traces/{id}").json()["artifacts"]
                    assert artifacts
                    for word in words:
                        assert word not in shown, (word, change, shown[max(0, shown.index(word) - 200) :][:400])

    def test_sizes_of_a_redacted_request(self) -> None:
        with replaying(ANSWERS, inspect=True, redact=True) as up:
            response = ask(up)
            shown = httpx.get(f"{up.url}/inspect/traces/{response.headers[TRACE_ID]}").json()
        kinds = {artifact["kind"]: artifact["data"] for artifact in shown["artifacts"]}
        assert kinds["chunk"]["characters"] == len(response.text)
        assert kinds["step"]["tokens"] >= 1
        assert shown["trace"]["completion_tokens"] == response.json()["usage"]["completion_tokens"]
        assert shown["vocabulary"] is None


def follow(url: str, found: list[Any], ended: int = 0, begun: threading.Event | None = None) -> None:
    """Append what the stream says, with its time, until it ends, or until so many requests have ended."""
    with httpx.Client() as client, client.stream("GET", url, timeout=120) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        if begun is not None:
            begun.set()
        for line in response.iter_lines():
            if line.startswith("data: "):
                found.append((time.monotonic(), json.loads(line[6:])))
                heads = [value["trace"] for _, value in found if "trace" in value]
                over = {head["id"] for head in heads if head["state"] != "open"}
                if ended and len(over) >= ended:
                    return


class TestFollowing:
    def test_one_request_while_it_runs(self) -> None:
        with replaying(ANSWERS, inspect=True, interval=0.02) as up:
            asking_now = threading.Thread(target=ask, args=(up, "call"), kwargs={"tools": [WEATHER], "stream": True})
            asking_now.start()
            while not (traces := httpx.get(up.url + "/inspect/traces").json()["traces"]):
                time.sleep(0.01)
            found: list[Any] = []
            follow(f"{up.url}/inspect/traces/{traces[0]['id']}/live", found)
            asking_now.join()
            whole = httpx.get(f"{up.url}/inspect/traces/{traces[0]['id']}").json()
        assert len(found) > 6  # it was live
        latest: dict[int, Any] = {}
        for _, value in found:
            latest.update({artifact["id"]: artifact for artifact in value.get("artifacts", ())})
        assert list(latest.values()) == whole["artifacts"]
        assert found[-1][1]["trace"] == whole["trace"]
        batches = [at for at, value in found if "artifacts" in value]
        steps = sum(artifact["kind"] == "step" for artifact in whole["artifacts"])
        assert len(batches) < steps  # what comes together is told together

    def test_all_requests(self) -> None:
        with replaying(ANSWERS, inspect=True) as up:
            found: list[Any] = []
            begun = threading.Event()
            following = threading.Thread(target=follow, args=(up.url + "/inspect/live", found, 2, begun), daemon=True)
            following.start()
            assert begun.wait(SAFETY)
            ids = [ask(up).headers[TRACE_ID], ask(up, temperature="hot").headers[TRACE_ID]]
            following.join(SAFETY)
            assert not following.is_alive()
        ended = {value["trace"]["id"]: value["trace"] for _, value in found if value["trace"]["state"] != "open"}
        assert [ended[id]["state"] for id in ids] == ["ok", "refused"]

    def test_only_the_head(self) -> None:
        with replaying(ANSWERS, inspect=True) as up, httpx.Client(timeout=120) as client:
            head = client.head(up.url + "/inspect/live")
            assert head.headers["content-type"].startswith("text/event-stream")
            assert client.get(up.url + "/health").status_code == 200  # on the same connection

    def test_a_server_that_ends_does_not_wait_for_its_followers(self, tmp_path: Path, smollm2_path: Path) -> None:
        script = tmp_path / "answers.jsonl"
        script.write_text(json.dumps({"text": "Hello."}) + "\n")
        with running_server(smollm2_path, "--engine", f"replay:{script}", "--inspect", "--drain-timeout", "600") as up:
            found: list[Any] = []
            begun = threading.Event()
            following = threading.Thread(target=follow, args=(up.url + "/inspect/live", found, 0, begun), daemon=True)
            following.start()
            assert begun.wait(SAFETY)
            up.process.send_signal(signal.SIGTERM)
            assert up.process.wait(SAFETY) == 0  # which is less than it would wait for requests
            following.join(SAFETY)
            assert not following.is_alive()
