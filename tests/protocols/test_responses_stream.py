"""Responses: every event sequence that parsing can produce gives a legal stream, whose fold is the body."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.errors import CancelledError, EngineDeadError, PorticoError
from portico.events import CallArguments, CallStart, Content, Event, Finish, Reasoning
from portico.generation import Delta
from portico.protocols.responses.request import generation, read_request
from portico.protocols.responses.response import new_response
from portico.protocols.responses.schema import ResponsesRequest
from portico.protocols.responses.sealing import Sealer
from portico.protocols.responses.stream import Answer, ResponseBody, ResponseStream
from portico.protocols.validation import parse_body
from support.anthropic import answers
from support.effort import examples
from support.generation import tiny_model
from support.responses import assert_in_order, assert_valid, assert_valid_event, events_of

SEALER = Sealer("a secret")
MODEL = tiny_model(capabilities=frozenset({"generate", "constraints", "logprobs"}), tool_parser="hermes")
NAMES = ("get_weather", "search", "run", "local_shell", "apply_patch")
NAMED = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4)
TOOLS = [
    {"type": "function", "name": "get_weather", "parameters": {"type": "object"}},
    {"type": "custom", "name": "run"},
    {"type": "namespace", "name": "web", "description": "", "tools": [{"type": "function", "name": "search"}]},
    {"type": "local_shell"},
    {"type": "apply_patch"},
    {"type": "web_search"},
]


def make(*, streamed: bool, **fields: Any) -> Answer:
    body = {"model": "tiny", "input": "Hi", "tools": TOOLS, **fields}
    request = parse_body(ResponsesRequest, json.dumps(body).encode())
    asked = read_request(request, request.given, 0, MODEL, SEALER)
    prompt = MODEL.prompter.render_chat(**asked.prompt_arguments)
    made = generation(request, asked, prompt, MODEL, "resp_0")
    response = new_response(request, MODEL, id="resp_0", created=1, kept=False)
    answer = Answer(request, response, asked.offered, MODEL, SEALER, lambda: 2.0, streamed=streamed)
    answer.take_up(made)
    return answer


def renamed(events: list[Event], names: list[str]) -> list[Event]:
    """The calls under names of our tools."""
    return [
        CallStart(event.index, event.id, names[event.index % len(names)]) if isinstance(event, CallStart) else event
        for event in events
    ]


def steps(events: list[Event], sizes: list[int], reason: str) -> list[Delta]:
    """The events as deltas of one choice."""
    deltas = []
    for size in [*sizes, len(events)]:
        deltas.append(Delta(0, events[:size], [1]))
        events = events[size:]
    deltas[-1].finish = Finish(reason)  # type: ignore[arg-type]
    return deltas


def without_ids(value: Any) -> Any:
    """Ids and what is sealed are made anew by every answer."""
    text = re.sub(r'"((?:msg|rs|fc|ctc|lsh|apc)_[0-9A-Za-z]{16})"', '"id"', json.dumps(value))
    return json.loads(re.sub(r'"pt1\.[^"]*"', '"sealed"', text))


@settings(max_examples=examples(25))
@given(
    events=answers(),
    names=NAMED,
    sizes=st.lists(st.integers(0, 3), max_size=8),
    reason=st.sampled_from(["stop", "length", "tool_calls"]),
    summary=st.booleans(),
    sealed=st.booleans(),
    background=st.booleans(),
)
def test_stream_folds_to_the_body(
    events: list[Event],
    names: list[str],
    sizes: list[int],
    reason: str,
    summary: bool,
    sealed: bool,
    background: bool,
) -> None:
    fields: dict[str, Any] = {"background": background}
    if summary:
        fields["reasoning"] = {"summary": "auto"}
    if sealed:
        fields["include"] = ["reasoning.encrypted_content"]
    events = renamed(events, names)
    stream, whole = ResponseStream(make(streamed=True, **fields)), ResponseBody(make(streamed=False, **fields))
    data = stream.start()
    for delta in steps(events, sizes, reason):
        data += stream.feed(delta)
        whole.feed(delta)
    sent = events_of(data + stream.finish())
    body = json.loads(whole.body())
    assert_in_order(sent, background=background)
    assert_valid(body)
    assert without_ids(sent[-1]["response"]) == without_ids(body)

    text = "".join(event.text for event in events if isinstance(event, Content))
    thoughts = "".join(event.text for event in events if isinstance(event, Reasoning))
    messages = [item for item in body["output"] if item["type"] == "message"]
    assert "".join(part["text"] for item in messages for part in item["content"]) == text
    shown = [item for item in body["output"] if item["type"] == "reasoning"]
    assert "".join(item["content"][0]["text"] for item in shown) == thoughts
    assert all(bool(item["summary"]) == summary for item in shown)
    if sealed:
        assert "".join(SEALER.open(item["encrypted_content"], "thought") or "" for item in shown) == thoughts
    calls = [event for event in events if isinstance(event, CallStart)]
    assert len([item for item in body["output"] if item["type"].endswith("_call")]) == len(calls)
    for call, item in zip(calls, (one for one in body["output"] if one["type"].endswith("_call")), strict=True):
        if item["type"] == "function_call":
            written = "".join(e.json_fragment for e in events if isinstance(e, CallArguments) and e.index == call.index)
            assert item["arguments"] == written
            assert item["call_id"] == call.id
            assert (item["name"], item.get("namespace")) == (call.name, None)
    assert body["status"] == ("incomplete" if reason == "length" else "completed")
    assert (body["incomplete_details"] is not None) == (reason == "length")


@pytest.mark.parametrize("functions", [True, False])
@settings(max_examples=examples(15))
@given(
    events=answers(), names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), sizes=st.lists(st.integers(0, 3))
)
def test_every_event_is_valid(functions: bool, events: list[Event], names: list[str], sizes: list[int]) -> None:
    fields: dict[str, Any] = {"reasoning": {"summary": "detailed"}, "include": ["reasoning.encrypted_content"]}
    if functions:
        fields["tools"], names = TOOLS[:1], NAMES[:1]
    stream = ResponseStream(make(streamed=True, **fields))
    data = stream.start()
    for delta in steps(renamed(events, names), sizes, "stop"):
        data += stream.feed(delta)
    for event in events_of(data + stream.keep_alive() + stream.finish()):
        assert_valid_event(event, functions=functions)


@settings(max_examples=examples(25))
@given(events=answers(), cut=st.integers(0, 12), error=st.sampled_from([EngineDeadError("gone"), CancelledError("no")]))
def test_an_answer_that_fails_ends_once_with_what_there_is(events: list[Event], cut: int, error: PorticoError) -> None:
    stream = ResponseStream(make(streamed=True))
    data = stream.start()
    for event in events[:cut]:
        data += stream.feed(Delta(0, [event], [1]))
    sent = events_of(data + stream.fail(error))
    assert_in_order(sent)
    last = sent[-1]
    assert_valid(last["response"])
    assert last["response"]["status"] == ("cancelled" if isinstance(error, CancelledError) else "failed")
    told = "".join(event["delta"] for event in sent if event["type"] == "response.output_text.delta")
    kept = [
        part["text"] for item in last["response"]["output"] if item["type"] == "message" for part in item["content"]
    ]
    assert "".join(kept) == told


def test_a_namespace_comes_back() -> None:
    stream = ResponseStream(make(streamed=True))
    data = stream.start()
    data += stream.feed(Delta(0, [CallStart(0, "call_1", "web__search"), CallArguments(0, "{}")], [1]))
    sent = events_of(data + stream.finish())
    item = sent[-1]["response"]["output"][0]
    assert (item["name"], item["namespace"]) == ("search", "web")


def test_what_this_server_has_not_sealed_for_it_stays_closed() -> None:
    sealed = SEALER.seal("a thought", "thought")
    assert SEALER.open(sealed, "thought") == "a thought"
    assert SEALER.open(sealed, "compaction") is None
    assert Sealer("another secret").open(sealed, "thought") is None
    assert SEALER.open(sealed[:-4] + "AAAA", "thought") is None


@pytest.mark.parametrize("sealed", [None, "", "pt1.", "pt1.é", "pt1.AAAA", "gAAAA", 7])
def test_what_is_no_seal_stays_closed(sealed: object) -> None:
    assert SEALER.open(sealed, "thought") is None
