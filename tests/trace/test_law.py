"""The law of traces: what is recorded as written is what was sent, and all of it leads back to where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from portico.trace import exact_bytes
from support.replay import Replaying, replaying
from support.trace import ANSWERS, CHAT, REQUESTS, WEATHER, asking


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, inspect=True, tool_parser="hermes", reasoning_parser="qwen3") as up:
        yield up


def traced(server: Replaying, path: str, body: Any) -> tuple[httpx.Response, dict[str, Any], list[dict[str, Any]]]:
    """The response, and the head and the artifacts of its trace."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(server.url + path, content=content, headers={"content-type": "application/json"}, timeout=120)
    found = httpx.get(f"{server.url}/inspect/traces/{response.headers['x-portico-trace-id']}").json()
    return response, found["trace"], found["artifacts"]


def ancestors(artifacts: list[dict[str, Any]], id: int) -> set[int]:
    found: set[int] = set()
    waiting = [id]
    while waiting:
        for parent in artifacts[waiting.pop()]["of"]:
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def of_kind(artifacts: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in artifacts if one["kind"] == kind]


def assert_lawful(response: httpx.Response, artifacts: list[dict[str, Any]]) -> None:
    """Every byte of the body is in a chunk, every chunk is its frames, everything but the request has an origin that is
    older, and every way back ends at the request."""
    chunks = of_kind(artifacts, "chunk")
    assert b"".join(exact_bytes(one["data"]) for one in chunks) == response.content
    for index, one in enumerate(artifacts):
        assert one["id"] == index
        assert all(parent < index or one["kind"] == "held" for parent in one["of"])
        assert one["took"] is not None
        if index:
            assert 0 in ancestors(artifacts, index), one
    for chunk in chunks:
        frames = [artifacts[id] for id in chunk["of"] if artifacts[id]["kind"] == "frame"]
        if frames:
            first = sorted(frames, key=lambda one: one["label"] != "the head of the stream")
            assert b"".join(exact_bytes(one["data"]) for one in first) == exact_bytes(chunk["data"])


class TestOpenAI:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(("name", "more"), REQUESTS)
    def test_every_byte_has_an_ancestor(self, server: Replaying, name: str, more: dict[str, Any], stream: bool) -> None:
        if not stream:
            more = {key: value for key, value in more.items() if key != "stream_options"}
        response, head, artifacts = traced(server, CHAT, asking(name, stream=stream, **more))
        assert_lawful(response, artifacts)
        assert head["state"] == ("failed" if name == "fails" else "ok")
        steps = of_kind(artifacts, "step")
        for chunk in of_kind(artifacts, "chunk")[1 if stream else 0 :]:
            back = ancestors(artifacts, chunk["id"])
            assert any(step["id"] in back for step in steps), chunk

    def test_the_tokens_of_a_piece_of_text(self, server: Replaying) -> None:
        """What a content chunk says is in the text of exactly its ancestors."""
        _, _, artifacts = traced(server, CHAT, asking("plain", stream=True))
        told = 0
        for event in of_kind(artifacts, "event"):
            if event["data"]["type"] == "Content":
                texts = [artifacts[id]["data"]["text"] for id in event["of"] if artifacts[id]["kind"] == "text"]
                assert event["data"]["text"].strip() in "".join(texts)
                told += 1
        assert told > 5

    def test_what_is_held_says_why(self, server: Replaying) -> None:
        _, _, artifacts = traced(server, CHAT, asking("alarm", stream=True, tools=[WEATHER]))
        reasons = " / ".join(one["data"]["reason"] for one in of_kind(artifacts, "held"))
        assert "may be the beginning of <tool_call>" in reasons
        _, _, artifacts = traced(server, CHAT, asking("plain", stream=True))
        held = {one["id"]: one for one in of_kind(artifacts, "held") if one["data"]["layer"] == "decoding"}
        assert {one["data"]["reason"] for one in held.values()} == {"the bytes of a character that is not complete"}
        (parrot,) = [one for one in of_kind(artifacts, "text") if "🦜" in one["data"]["text"]]
        assert held.keys() & set(parrot["of"])
        _, _, artifacts = traced(server, CHAT, asking("stop", stream=True, stop=["END"]))
        assert {one["data"]["layer"] for one in of_kind(artifacts, "held")} == {"stop strings"}
        _, _, artifacts = traced(server, CHAT, asking("call", stream=True, tools=[WEATHER]))
        reasons = " / ".join(one["data"]["reason"] for one in of_kind(artifacts, "held"))
        assert "white space is dropped if a marker follows" in reasons
        assert "may be the header of a call" in reasons

    def test_only_steps_are_inference(self, server: Replaying) -> None:
        _, _, artifacts = traced(server, CHAT, asking("call", stream=True, tools=[WEATHER]))
        assert {one["kind"] for one in artifacts if one["by"] == "inference"} == {"step"}

    def test_tokens_have_their_spelling(self, server: Replaying) -> None:
        _, _, artifacts = traced(server, CHAT, asking("plain"))
        (prompt,) = of_kind(artifacts, "prompt_tokens")
        assert "".join(prompt["data"]["pieces"]) == of_kind(artifacts, "prompt")[0]["data"]["text"]


class TestOtherRoutes:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("name", ["plain", "call", "fails"])
    def test_messages(self, server: Replaying, name: str, stream: bool) -> None:
        tools = [{"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}]
        response, _, artifacts = traced(server, "/v1/messages", asking(name, stream=stream, tools=tools))
        assert_lawful(response, artifacts)

    @pytest.mark.parametrize("stream", [True, False])
    def test_completions_of_several_prompts(self, server: Replaying, stream: bool) -> None:
        body = {"prompt": ["[[plain]]", "[[stop]]"], "n": 2, "max_tokens": 60, "stream": stream}
        response, _, artifacts = traced(server, "/v1/completions", body)
        assert_lawful(response, artifacts)
        assert {one["choice"] for one in of_kind(artifacts, "step")} == {0, 1, 2, 3}
        assert len(of_kind(artifacts, "prompt_tokens")) == 2

    def test_a_route_without_a_generation(self, server: Replaying) -> None:
        response, head, artifacts = traced(server, "/tokenize", {"prompt": "abc"})
        assert_lawful(response, artifacts)
        assert head["state"] == "ok"


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "layer", "lane"),
        [
            (b"{", "protocols", "request"),
            ({**asking("plain"), "temperature": "hot"}, "protocols", "request"),
            ({**asking("plain"), "model": "nobody"}, "server", "request"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
             "prompting", "prompt"),
            ({**asking("plain"), "response_format": {"type": "json_schema", "json_schema": {
                "name": "x", "schema": {"type": "nothing"}}}}, "constraints", "prompt"),
        ],
    )  # fmt: skip
    def test_the_layer_that_refused(self, server: Replaying, body: Any, layer: str, lane: str) -> None:
        response, head, artifacts = traced(server, CHAT, body)
        assert response.status_code in (400, 404), response.text
        assert_lawful(response, artifacts)
        (error,) = of_kind(artifacts, "error")
        assert (error["data"]["layer"], error["lane"]) == (layer, lane)
        assert head["error"]["message"] == response.json()["error"]["message"]
        assert (head["state"], head["status"]) == ("refused", response.status_code)


@pytest.mark.parametrize("stream", [False, True])
def test_where_an_engine_was_lost(stream: bool) -> None:
    """It stands in the trace, and what came after it comes from there; the law holds, and the replay is the same."""
    with replaying(ANSWERS, inspect=True, lives=[3]) as up:
        response, head, artifacts = traced(up, CHAT, asking("plain", stream=stream))
    assert head["state"] == "ok"
    assert_lawful(response, artifacts)
    (lost,) = of_kind(artifacts, "lost")
    assert lost["label"] == "the engine was lost here"
    steps = of_kind(artifacts, "step")
    assert [lost["id"] in step["of"] for step in steps] == [number >= 3 for number in range(len(steps))]
