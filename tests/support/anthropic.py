"""Anthropic's shapes as validators (the types of its SDK, and the JSON Schemas derived from them where the shared test
material is at hand), what its SDK makes of a stream, and every answer that parsing can produce."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from anthropic import types
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from portico.events import CallArguments, CallEnd, CallStart, Content, Event, Reasoning
from support.shared import shared_file

TYPES: dict[str, Any] = {
    "ErrorResponse": types.ErrorResponse,
    "Message": types.Message,
    "MessageTokensCount": types.MessageTokensCount,
    "ModelInfo": types.ModelInfo,
    "RawMessageStreamEvent": types.RawMessageStreamEvent,
}


@lru_cache(maxsize=8)
def _validator(name: str) -> Draft202012Validator:
    path = shared_file("specs/anthropic-sdk-2.12.0-derived.schema.json")
    return Draft202012Validator(json.loads(path.read_text())[name] if path else {})


def assert_valid(name: str, value: Any) -> None:
    """``value`` is what the SDK's types call ``name``."""
    TypeAdapter(TYPES[name]).validate_json(json.dumps(value), strict=True)
    problems = sorted(_validator(name).iter_errors(value), key=lambda error: list(error.absolute_path))
    assert not problems, "\n".join(f"{list(p.absolute_path)}: {p.message[:300]}" for p in problems[:5])


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The events of a raw stream, checked for framing: an ``event:`` line that names the type, one ``data:`` line."""
    frames = stream.decode().split("\n\n")
    assert frames.pop() == ""
    found = []
    for frame in frames:
        first, second = frame.split("\n")
        event = json.loads(second.removeprefix("data: "))
        assert first == f"event: {event['type']}"
        assert second.startswith("data: ")
        found.append(event)
    return found


def assert_in_order(events: list[dict[str, Any]]) -> None:
    """The one order that Anthropic's protocol knows."""
    kinds = [event["type"] for event in events if event["type"] != "ping"]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    block, index = None, -1
    deltas = {
        "text": {"text_delta"},
        "thinking": {"thinking_delta", "signature_delta"},
        "tool_use": {"input_json_delta"},
    }
    for event in [event for event in events if event["type"] != "ping"][1:-2]:
        if event["type"] == "content_block_start":
            assert block is None
            block, index = event["content_block"]["type"], index + 1
        elif event["type"] == "content_block_delta":
            assert block is not None
            assert event["delta"]["type"] in deltas[block]
        else:
            assert event["type"] == "content_block_stop"
            assert block is not None
            block = None
        assert event["index"] == index
    assert block is None


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
SCRAPS = st.sampled_from(
    [*'{}[]",:\\ \n-0123456789.eE', "true", "nul", "None", "\\u12", "\\ud83d", "\\udc00", '"a"', "\x07", "é", "🚀"]
)


@st.composite
def arguments(draw: st.DrawFn) -> str:
    """Arguments as models write them: objects, objects with a flaw, anything."""
    value = draw(st.dictionaries(TEXTS, JSON, max_size=3))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])), allow_nan=False)
    flaw = draw(st.sampled_from(["none", "none", "inserted", "cut", "scraps"]))
    if flaw == "inserted":
        at = draw(st.integers(0, len(text)))
        return text[:at] + draw(SCRAPS) + text[at:]
    if flaw == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if flaw == "scraps":
        return "".join(draw(st.lists(SCRAPS, max_size=12)))
    return text


def cut_up(draw: st.DrawFn, text: str) -> list[str]:
    """``text`` in pieces."""
    pieces = []
    while text:
        size = draw(st.integers(1, len(text)))
        pieces.append(text[:size])
        text = text[size:]
    return pieces


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """The events of one answer: all that parsing can produce, calls cut off and arguments that are no JSON too."""
    events: list[Event] = []
    calls = 0
    for kind in draw(st.lists(st.sampled_from(["thought", "text", "call"]), max_size=5)):
        if kind == "thought":
            events += [Reasoning(text) for text in draw(st.lists(TEXTS, min_size=1, max_size=3))]
        elif kind == "text":
            events += [Content(text) for text in draw(st.lists(TEXTS, min_size=1, max_size=3))]
        else:
            own = draw(st.sampled_from([f"call_{calls:024x}", f"functions.f:{calls}", str(calls), "a1B2c3D4e"]))
            events.append(CallStart(calls, own, draw(st.sampled_from(["get_weather", "f"]))))
            events += [CallArguments(calls, piece) for piece in cut_up(draw, draw(arguments()))]
            events.append(CallEnd(calls))
            calls += 1
    if calls and draw(st.booleans()):
        del events[next(i for i in reversed(range(len(events))) if isinstance(events[i], CallEnd))]
    return events
