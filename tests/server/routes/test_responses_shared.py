"""Two servers over one database: what one of them makes the other tells, stops and deletes, for the same key; to
another key it is nowhere. And what is deleted while it is being made does not come back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from portico.server.routes.responses import background
from support.replay import Replaying, replaying
from support.responses import assert_in_order, events_of
from support.sockets import Socket
from support.store import postgres  # noqa: F401  (a fixture)
from support.wait import until

ANSWERS = {
    "plain": "It is sunny.",
    "thinks": "<think>\nSECRET thoughts.\n</think>\n\nSECRET words.",
    "long": "word " * 100,
}
MINE, THEIRS = "first-key", "second-key"
HELLO = {"role": "user", "content": "[[plain]] SECRET question"}


class Client:
    """One key's, at one server."""

    def __init__(self, server: Replaying, key: str = MINE) -> None:
        self.headers = {"Authorization": f"Bearer {key}"}
        self.url = server.url
        self._http = httpx.Client(base_url=server.url, headers=self.headers, timeout=300)

    def __call__(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self._http.request(method, path, json=body)

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self(method, path, body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def create(self, given: Any, status: int = 200, **fields: Any) -> Any:
        return self.ask("POST", "/v1/responses", {"model": "tiny", "input": given, **fields}, status)

    def stream(self, path: str) -> list[dict[str, Any]]:
        answer = self("GET", path)
        assert answer.status_code == 200, answer.text
        return events_of(b"\n".join(line for line in answer.content.split(b"\n") if not line.startswith(b"id: ")))


class Pair:
    """``one`` makes a step of its answers for each time that it is let; ``two`` is not held up."""

    def __init__(self, one: Replaying, two: Replaying, turns: threading.Semaphore) -> None:
        self.servers = (one, two)
        self._turns = turns

    def client(self, server: int, key: str = MINE) -> Client:
        return Client(self.servers[server], key)

    def let(self, steps: int) -> None:
        self._turns.release(steps)

    def begun(self, **fields: Any) -> str:
        """The id of a response that the first server has begun, and will not end by itself."""
        while self._turns.acquire(blocking=False):
            pass
        id: str = self.client(0).create("[[long]]", background=True, **fields)["id"]
        until(lambda: self.client(1).ask("GET", f"/v1/responses/{id}")["status"] == "in_progress")
        self.let(3)
        return id


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    store = str(tmp_path_factory.mktemp("store") / "portico.db")
    if request.param == "postgresql":
        store = request.getfixturevalue("postgres").fresh()
    turns = threading.Semaphore(0)
    facts: Any = {"keys": (MINE, THEIRS), "store": store, "tool_parser": "hermes", "reasoning_parser": "qwen3"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(background, "ASKED", 0.05)
        with replaying(ANSWERS, turns=turns, **facts) as one, replaying(ANSWERS, **facts) as two:
            yield Pair(one, two, turns)


BODIES: dict[str, Any] = {
    "/v1/conversations/{id}": {"metadata": {"a": "stolen"}},
    "/v1/conversations/{id}/items": {"items": [{"role": "user", "content": "stolen"}]},
}


def requests_for(pair: Pair, names: dict[str, dict[str, str]]) -> Iterator[tuple[str, str, Any]]:
    """Every request that the server's own description has for one thing; ``names`` are ids by the heads of paths."""
    paths = pair.client(1).ask("GET", "/openapi.json")["paths"]
    for path, methods in paths.items():
        for head, ids in names.items():
            if path.startswith(head + "/{id}"):
                for method in methods:
                    yield method.upper(), path.format(**ids), BODIES.get(path) if method == "post" else None


@pytest.mark.parametrize("server", [0, 1])
def test_to_another_key_nothing_is_there(pair: Pair, server: int) -> None:
    mine, theirs = pair.client(1), pair.client(server, THEIRS)
    kept = mine.create([HELLO, {"role": "user", "content": "[[thinks]]"}])
    room = mine.ask("POST", "/v1/conversations", {"items": [HELLO], "metadata": {"a": "SECRET"}})
    (first,) = mine.ask("GET", f"/v1/conversations/{room['id']}/items")["data"]
    running = pair.begun()
    told = [
        f"/v1/responses/{kept['id']}",
        f"/v1/responses/{kept['id']}/input_items",
        f"/v1/conversations/{room['id']}",
        f"/v1/conversations/{room['id']}/items",
    ]
    before = [mine.ask("GET", path) for path in told]

    asked = 0
    for response in (kept["id"], running):
        ids = {"/v1/responses": {"id": response}, "/v1/conversations": {"id": room["id"], "item": first["id"]}}
        nobodys = {head: {name: value[:-4] + "0000" for name, value in one.items()} for head, one in ids.items()}
        for (method, path, body), (_, other, _) in zip(
            requests_for(pair, ids), requests_for(pair, nobodys), strict=True
        ):
            refused = theirs(method, path, body)
            assert refused.status_code == 404, (method, path, refused.text)
            if method != "HEAD":  # and it reads as if there had never been one
                unknown = theirs(method, other, body).text
                assert refused.text.replace(path.split("/")[3], "") == unknown.replace(other.split("/")[3], "")
            asked += 1
    assert asked >= 2 * 10
    for query in ("?stream=true", "?stream=true&starting_after=0"):
        theirs.ask("GET", f"/v1/responses/{running}{query}", status=404)

    thought, said = kept["output"]
    inside: list[tuple[dict[str, Any], int]] = [
        ({"input": "Hi", "previous_response_id": kept["id"]}, 400),
        ({"input": "Hi", "previous_response_id": running}, 400),
        ({"input": "Hi", "conversation": room["id"]}, 404),
        ({"input": [{"type": "item_reference", "id": said["id"]}]}, 404),
        ({"input": [{"id": first["id"]}]}, 404),
    ]
    for body, status in inside:
        for path in ("/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact"):
            if path.endswith("compact") and "conversation" in body:
                continue  # it has no such field
            theirs.ask("POST", path, {"model": "tiny", **body}, status=status)
    by_id = [{"type": "reasoning", "id": thought["id"], "summary": []}, {"role": "user", "content": "[[plain]]"}]
    pair.client(1, THEIRS).create(by_id, store=False)
    assert "SECRET" not in pair.servers[1].prompts[-1]
    with Socket(pair.servers[server].url, additional_headers=theirs.headers) as socket:
        for body, status in inside:
            socket.say(body["input"], **{name: value for name, value in body.items() if name != "input"})
            refused = socket.answer()[-1]
            assert (refused["type"], refused["status"]) == ("error", status)

    assert [mine.ask("GET", path) for path in told] == before
    assert mine.ask("GET", f"/v1/responses/{running}")["status"] == "in_progress"
    assert mine.ask("POST", f"/v1/responses/{running}/cancel")["status"] == "cancelled"


def test_the_other_server_tells_all_of_it(pair: Pair) -> None:
    id = pair.begun()
    other = pair.client(1)
    with ThreadPoolExecutor(1) as reading:
        told = reading.submit(other.stream, f"/v1/responses/{id}?stream=true")
        pair.let(1000)
        events = told.result()
    assert_in_order(events, background=True)
    whole = other.ask("GET", f"/v1/responses/{id}")
    assert events[-1]["response"] == whole
    assert whole["output"][0]["content"][0]["text"] == ANSWERS["long"]
    assert other.stream(f"/v1/responses/{id}?stream=true&starting_after=4") == events[5:]
    assert pair.client(0).create("[[plain]]", previous_response_id=id)["status"] == "completed"


@pytest.mark.parametrize("how", ["cancel", "delete"])
@pytest.mark.parametrize("server", [0, 1])
def test_any_server_stops_it(pair: Pair, server: int, how: str) -> None:
    room = pair.client(0).ask("POST", "/v1/conversations", {})["id"]
    id = pair.begun(conversation=room)
    client = pair.client(server)
    if how == "cancel":
        cancelled = client.ask("POST", f"/v1/responses/{id}/cancel")
        assert cancelled["status"] == "cancelled"
        assert all(one.ask("GET", f"/v1/responses/{id}") == cancelled for one in map(pair.client, (0, 1)))
        assert client.ask("POST", f"/v1/responses/{id}/cancel") == cancelled
    else:
        client.ask("DELETE", f"/v1/responses/{id}")
        for one in map(pair.client, (0, 1)):
            one.ask("GET", f"/v1/responses/{id}", status=404)
            one.ask("GET", f"/v1/responses/{id}?stream=true", status=404)
            one.create("Hi", status=400, previous_response_id=id)
    pair.let(1000)
    until(_free(pair.client(1), room))  # nothing was added to it, and it is locked no more
    items = client.ask("GET", f"/v1/conversations/{room}/items")["data"]
    assert [item["role"] for item in items] == ["assistant", "user"]
    assert ANSWERS["long"] not in json.dumps(items)


def _free(client: Client, room: str) -> Callable[[], bool]:
    body = {"model": "tiny", "input": "[[plain]]", "conversation": room}

    def free() -> bool:
        answer = client("POST", "/v1/responses", body)
        assert answer.status_code in (200, 409), answer.text
        return answer.status_code == 200

    return free


@pytest.mark.parametrize("server", [0, 1])
def test_a_conversation_is_deleted_while_it_is_written_to(pair: Pair, server: int) -> None:
    client = pair.client(server)
    room = client.ask("POST", "/v1/conversations", {"items": [HELLO]})["id"]
    id = pair.begun(conversation=room)
    client.ask("DELETE", f"/v1/conversations/{room}")
    pair.let(1000)
    until(lambda: client.ask("GET", f"/v1/responses/{id}")["status"] == "completed")
    for path in (f"/v1/conversations/{room}", f"/v1/conversations/{room}/items"):
        client.ask("GET", path, status=404)
    client.create("Hi", status=404, conversation=room)
    client.create("[[plain]]", previous_response_id=id)  # what was said stays with the response
    assert ANSWERS["long"] in pair.servers[server].prompts[-1]


def test_turns_at_once_are_added_one_after_the_other_or_refused(pair: Pair) -> None:
    pair.let(10_000)
    room = pair.client(0).ask("POST", "/v1/conversations", {})["id"]

    def turn(number: int) -> int:
        body = {"model": "tiny", "input": f"number {number} [[plain]]", "conversation": room}
        return pair.client(number % 2)("POST", "/v1/responses", body).status_code

    with ThreadPoolExecutor(8) as clients:
        outcomes = list(clients.map(turn, range(16)))
    assert set(outcomes) <= {200, 409}
    items = pair.client(1).ask("GET", f"/v1/conversations/{room}/items?order=asc&limit=100")["data"]
    said = [item["content"][0]["text"] for item in items if item["role"] == "user"]
    assert [item["role"] for item in items] == ["user", "assistant"] * outcomes.count(200)
    assert sorted(said) == sorted(f"number {n} [[plain]]" for n, outcome in enumerate(outcomes) if outcome == 200)
    assert outcomes.count(200) >= 1
