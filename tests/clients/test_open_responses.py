"""The seventeen checks of Open Responses' compliance suite (its April version of 2026), made again: the suite itself
is no package that could be installed. Every event and every object is held to the schemas of that version.

Where a model's ability is asked for, what the model says is scripted: that it calls a tool, that it sees an image, and
what it makes of a conversation that it is to compact. ``response-output-phase-schema`` asks no server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.replay import Replaying, replaying
from support.responses import OPEN, assert_in_order, assert_valid, assert_valid_event, check, events_of
from support.sockets import BEARER, KEY, Socket

# a red dot
IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJg"
    "gg=="
)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a place.",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
TEXT = {"text": "Good day to you."}
CALL = {"call": '<tool_call>\n{"name": "get_weather", "arguments": {"location": "San Francisco, CA"}}\n</tool_call>'}
SEES = frozenset({"generate", "logprobs", "constraints", "vision"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    store = str(tmp_path_factory.mktemp("store") / "portico.db")
    with replaying(TEXT, keys=[KEY], store=store, tool_parser="hermes", capabilities=SEES) as up:
        yield up


@pytest.fixture
def socket(server: Replaying) -> Iterator[Socket]:
    with Socket(server.url) as opened:
        yield opened


def said(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **fields}


def post(server: Replaying, path: str = "/v1/responses", **body: Any) -> httpx.Response:
    return httpx.post(server.url + path, json=body, headers=BEARER, timeout=120)


def completed(server: Replaying, *items: Any, **fields: Any) -> dict[str, Any]:
    answer = post(server, model="tiny", input=list(items), **fields)
    assert answer.status_code == 200, answer.text
    response: dict[str, Any] = answer.json()
    assert_valid(response, functions=True)
    assert response["status"] == "completed"
    assert response["output"]
    return response


def completed_turn(socket: Socket, given: Any, **fields: Any) -> dict[str, Any]:
    socket.say(given, **fields)
    events = socket.answer()
    for event in events:
        assert_valid_event(event, functions=True)
    assert_in_order(events)
    response: dict[str, Any] = events[-1]["response"]
    assert_valid(response, functions=True)
    assert response["status"] == "completed"
    return response


def not_found(socket: Socket, given: Any, previous: str) -> None:
    error = socket.ask(given, store=False, previous_response_id=previous)
    check(OPEN, "WebSocketErrorEvent", error)
    assert error["error"]["code"] == "previous_response_not_found"


def test_basic_response(server: Replaying) -> None:
    completed(server, said("user", "Say hello in exactly three words."))


def test_assistant_phase(server: Replaying) -> None:
    completed(
        server,
        said("assistant", "I answer with the number that was kept.", phase="commentary"),
        said("assistant", "It is four.", phase="final_answer"),
        said("user", "The number alone, please."),
    )


def test_response_output_phase_schema(server: Replaying) -> None:
    response = completed(server, said("user", "Hi"))
    [message] = response["output"]
    phases = [{**message, "phase": phase} for phase in ("commentary", "final_answer")]
    check(OPEN, "ResponseResource", {**response, "output": phases})


def test_streaming_response(server: Replaying) -> None:
    answer = post(server, model="tiny", input=[said("user", "Count from 1 to 5.")], stream=True)
    events = events_of(answer.content)
    for event in events:
        assert_valid_event(event, functions=True)
    assert_in_order(events)
    assert_valid(events[-1]["response"], functions=True)
    assert events[-1]["response"]["status"] == "completed"


def test_system_prompt(server: Replaying) -> None:
    completed(server, said("system", "Speak as a pirate does."), said("user", "Say hello."))


def test_tool_calling() -> None:
    with replaying(CALL, keys=[KEY], tool_parser="hermes") as up:
        response = completed(up, said("user", "How is the weather in San Francisco?"), tools=[WEATHER])
    assert [item["type"] for item in response["output"]] == ["function_call"]


def test_image_input(server: Replaying) -> None:
    parts = [{"type": "input_text", "text": "What is to be seen?"}, {"type": "input_image", "image_url": IMAGE}]
    completed(server, said("user", parts))


def test_multi_turn(server: Replaying) -> None:
    completed(
        server,
        said("user", "My name is Alice."),
        said("assistant", "Hello Alice! What can I do for you?"),
        said("user", "What is my name?"),
    )


def test_websocket_response(socket: Socket) -> None:
    completed_turn(socket, [said("user", "Count from 1 to 3.")])


def test_websocket_sequential_responses(socket: Socket) -> None:
    for word in ("first", "second"):
        completed_turn(socket, f"Say {word}.", store=False)


def test_websocket_continuation(socket: Socket, server: Replaying) -> None:
    first = completed_turn(socket, "The word is cobalt. Say OK.", store=False)
    completed_turn(socket, "What is the word?", store=False, previous_response_id=first["id"])
    assert "cobalt" in server.prompts[-1]


def test_websocket_reconnect_store_false_recovery(server: Replaying) -> None:
    with Socket(server.url) as before:
        first = completed_turn(before, "The word is copper. Say OK.", store=False)
    with Socket(server.url) as after:
        not_found(after, "Go on.", first["id"])
        completed_turn(after, [said("user", "Begin anew.")], store=False)


def test_websocket_previous_response_not_found(socket: Socket) -> None:
    not_found(socket, "This has nothing before it.", f"resp_missing_{int(time.time())}")


def test_websocket_failed_continuation_evicts_cache(socket: Socket) -> None:
    first = completed_turn(socket, "The word is ember. Say OK.", store=False)
    output = {"type": "function_call_output", "call_id": "call_missing", "output": "There was no such call."}
    failed = socket.ask([output], store=False, previous_response_id=first["id"])
    check(OPEN, "WebSocketErrorEvent", failed)
    not_found(socket, "Go on after that.", first["id"])


def test_compact_response(server: Replaying) -> None:
    items = [said("user", "We launch on Tuesday and tell support first."), said("assistant", "Tuesday; support first.")]
    answer = post(server, "/v1/responses/compact", model="tiny", input=items, prompt_cache_key="a-key")
    assert answer.status_code == 200, answer.text
    check(OPEN, "CompactResource", answer.json())
    assert answer.json()["object"] == "response.compaction"
    assert "compaction" in [item["type"] for item in answer.json()["output"]]


def test_compact_missing_model(server: Replaying) -> None:
    answer = post(server, "/v1/responses/compact", input=[said("user", "Compact this.")])
    assert answer.status_code in (400, 422), answer.text


def test_websocket_compact_new_chain(server: Replaying, socket: Socket) -> None:
    items = [
        said("user", [{"type": "input_text", "text": "The word is slate."}]),
        said("assistant", [{"type": "output_text", "text": "OK."}]),
        said("user", [{"type": "input_text", "text": "Make this short, to go on from later."}]),
    ]
    compacted = post(server, "/v1/responses/compact", model="tiny", input=items).json()["output"]
    completed_turn(socket, [*compacted, said("user", "Go on from here.")], store=False, tools=[])
