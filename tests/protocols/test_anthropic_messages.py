"""Messages: every event sequence that parsing can produce gives a legal stream, the SDK's accumulator takes it, and it
folds to the body."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from portico.errors import (
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    EngineDeadError,
    EngineError,
    MethodNotAllowedError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    PorticoError,
    RateLimitError,
    RequestTimeoutError,
    RequestTooLargeError,
    UnsupportedMediaTypeError,
)
from portico.events import CallArguments, CallEnd, CallStart, Content, EngineOutput, Event, Finish, Reasoning
from portico.generation import Card, Delta
from portico.parsing import OutputParser
from portico.protocols.anthropic import errors, messages, models
from portico.protocols.anthropic.ids import call_id_for_model
from portico.protocols.anthropic.messages import Asked
from portico.protocols.anthropic.schema import MessagesRequest
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.validation import parse_body
from support.anthropic import answers, assert_in_order, assert_valid, events_of
from support.effort import examples, some
from support.generation import tiny_model
from support.shared import shared_path

SIGNER = Signer("a secret")
MESSAGES = [{"role": "user", "content": "Hi"}]
TOOL = {"name": "get_weather", "description": "Weather.", "input_schema": {"type": "object"}}
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
FIXED = {"message_id": "msg_0"}


def make(**fields: Any) -> tuple[MessagesRequest, Asked, Any, Any]:
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 100, **fields}
    request = parse_body(MessagesRequest, json.dumps(body).encode())
    model = tiny_model(capabilities=frozenset({"generate", "constraints"}), tool_parser="hermes")
    asked = messages.read_request(request, model, SIGNER)
    with asked.places.told():
        prompt = model.prompter.render_chat(**asked.prompt_arguments)
        return request, asked, messages.generation(request, asked, prompt, model, "r1"), model


def steps(events: list[Event], sizes: list[int], reason: str, stop: str | int | None = None) -> list[Delta]:
    """The events as deltas of one choice."""
    deltas = []
    for size in [*sizes, len(events)]:
        deltas.append(Delta(0, events[:size], [1]))
        events = events[size:]
    deltas[-1].finish, deltas[-1].stop_reason = Finish(reason), stop  # type: ignore[arg-type]
    return deltas


def play(deltas: list[Delta], **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The stream's events and the whole body of the same deltas."""
    request, _, generation, model = make(**fields)
    stream = messages.MessageStream(request, generation, model, SIGNER, **FIXED, request_id="req_1")
    whole = messages.MessageBody(request, generation, model, SIGNER, **FIXED)
    data = stream.start()
    for delta in deltas:
        data += stream.feed(delta)
        whole.feed(delta)
    return events_of(data + stream.finish()), json.loads(whole.body())


def fold(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What the SDK's own accumulator makes of the stream."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        if event["type"] != "ping":
            typed = EVENT.validate_python(event, strict=True)
            snapshot = accumulate_event(event=typed, current_snapshot=snapshot, json_bufs=buffers)
    folded: dict[str, Any] = json.loads(json.dumps(snapshot.to_dict()))
    assert folded.pop("stop_details") is None  # the accumulator always sets it
    return folded


def same_ids(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Wrapped call ids are made anew by each encoder; what they hold must agree."""
    return [{**b, "id": call_id_for_model(b["id"])} if b["type"] == "tool_use" else b for b in content]


@settings(max_examples=examples(80))
@given(
    events=answers(),
    sizes=st.lists(st.integers(0, 3), max_size=8),
    reason=st.sampled_from(["stop", "length", "tool_calls"]),
    stop=st.sampled_from([None, "END", 7]),
    thinking=st.sampled_from([None, "enabled", "disabled", "adaptive", "omitted"]),
)
def test_stream_folds_to_the_body(
    events: list[Event], sizes: list[int], reason: str, stop: str | int | None, thinking: str | None
) -> None:
    fields: dict[str, Any] = {"tools": [TOOL], "max_tokens": 2000}
    if thinking == "omitted":
        fields["thinking"] = {"type": "adaptive", "display": "omitted"}
    elif thinking:
        fields["thinking"] = {"type": thinking, **({"budget_tokens": 1024} if thinking == "enabled" else {})}
    streamed, body = play(steps(events, sizes, reason, stop), **fields)
    assert_in_order(streamed)
    folded = fold(streamed)
    folded["content"], content = same_ids(folded["content"]), body["content"]
    assert folded == {**body, "content": same_ids(content)}
    Message.model_validate(body, strict=True)

    text = "".join(event.text for event in events if isinstance(event, Content))
    thoughts = "".join(event.text for event in events if isinstance(event, Reasoning))
    calls = [event for event in events if isinstance(event, CallStart)]
    assert "".join(block["text"] for block in content if block["type"] == "text") == text
    assert [block["name"] for block in content if block["type"] == "tool_use"] == [call.name for call in calls]
    shown = [block for block in content if block["type"] == "thinking"]
    if thinking in (None, "disabled"):
        assert shown == []
    else:
        assert "".join(SIGNER.verify(b["thinking"], b["signature"]) or "" for b in shown) == thoughts
        assert thinking == "omitted" or "".join(block["thinking"] for block in shown) == thoughts
    if isinstance(stop, str):
        assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", stop)
    elif reason == "length":
        assert body["stop_reason"] == "max_tokens"
    else:
        assert body["stop_reason"] == ("tool_use" if calls else "end_turn")


@settings(max_examples=examples(20))
@given(events=answers(), sizes=st.lists(st.integers(0, 3), max_size=8))
def test_everything_validates_against_the_description(events: list[Event], sizes: list[int]) -> None:
    streamed, body = play(steps(events, sizes, "stop"), tools=[TOOL])
    assert_valid("Message", body)
    for event in streamed:
        if event["type"] != "ping":
            assert_valid("RawMessageStreamEvent", event)


def test_recorded_outputs_of_every_family() -> None:
    """Real formats, piece by piece: a legal stream that folds to the body, whatever the model wrote."""
    lines = shared_path("cases/parser_cases.jsonl").read_text().splitlines()
    for case in map(json.loads, some(lines, 200)):
        parser = OutputParser(
            case["tool_parser"],
            case["reasoning_parser"],
            tools=case["tools"],
            prompt_tail="<think>" if case["prompt_ends_in_reasoning"] else "",
            response_template=case.get("response_template"),
        )
        text = case["output"]
        deltas = [Delta(0, parser.feed(text[at : at + 3]), [1]) for at in range(0, len(text), 3)]
        *rest, finish = parser.close("length" if case["finish_reason"] == "length" else "stop")
        deltas.append(Delta(0, rest, [], finish=finish))  # type: ignore[arg-type]
        streamed, body = play(deltas, tools=[TOOL])
        assert_in_order(streamed)
        folded = fold(streamed)
        assert same_ids(folded["content"]) == same_ids(body["content"]), case["id"]


def test_thoughts_are_for_who_asks() -> None:
    """Without a word about thinking none is sent, unless the operator says so."""
    deltas = steps([Reasoning("Hm."), Content("Yes.")], [1, 1], "stop")
    streamed, body = play(deltas)
    assert [block["type"] for block in body["content"]] == ["text"]
    assert "thinking" not in json.dumps([event for event in streamed if event["type"].startswith("content_block")])
    request, _, generation, model = make()
    shown = messages.MessageBody(request, generation, replace(model, thinking_by_default=True), SIGNER, **FIXED)
    for delta in deltas:
        shown.feed(delta)
    assert [block["type"] for block in json.loads(shown.body())["content"]] == ["thinking", "text"]


def test_a_whole_stream() -> None:
    """The bytes, once, as Anthropic's documentation shows them."""
    call = CallStart(0, "call_000000000000000000000001", "get_weather")
    events: list[Event] = [
        Reasoning("Hm"), Reasoning("."), Content("I will "), Content("look."),
        call, CallArguments(0, '{"city": "Pa'), CallArguments(0, 'ris"}'), CallEnd(0),
    ]  # fmt: skip
    streamed, body = play(steps(events, [1] * 8, "tool_calls"), tools=[TOOL], thinking={"type": "adaptive"})
    usage = streamed[-2]["usage"]
    signature = SIGNER.sign("Hm.")
    assert streamed[0]["message"] == {
        "id": "msg_0", "type": "message", "role": "assistant", "model": "tiny", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {**usage, "service_tier": "standard"},
    }  # fmt: skip
    tool_use = {"type": "tool_use", "id": "toolu_000000000000000000000001", "name": "get_weather", "input": {}}

    def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": block}

    def delta(index: int, kind: str, key: str, text: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: text}}

    def stop(index: int) -> dict[str, Any]:
        return {"type": "content_block_stop", "index": index}

    assert streamed[1:-2] == [
        {"type": "ping"},
        start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(0, "thinking_delta", "thinking", "Hm"),
        delta(0, "thinking_delta", "thinking", "."),
        delta(0, "signature_delta", "signature", signature),
        stop(0),
        start(1, {"type": "text", "text": ""}),
        delta(1, "text_delta", "text", "I will "),
        delta(1, "text_delta", "text", "look."),
        stop(1),
        start(2, tool_use),
        delta(2, "input_json_delta", "partial_json", '{"city": "Pa'),
        delta(2, "input_json_delta", "partial_json", 'ris"'),
        delta(2, "input_json_delta", "partial_json", "}"),
        stop(2),
    ]
    assert streamed[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert streamed[-1] == {"type": "message_stop"}
    assert body["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": signature},
        {"type": "text", "text": "I will look."},
        {**tool_use, "input": {"city": "Paris"}},
    ]


def test_numbers_and_order_of_keys_survive_the_body() -> None:
    text = '{"b": 1.0, "a": 123456789012345678901234567890, "c": 1e2}'
    request, _, generation, model = make(tools=[TOOL])
    whole = messages.MessageBody(request, generation, model, SIGNER, **FIXED)
    whole.feed(Delta(0, [CallStart(0, "call_1", "f"), CallArguments(0, text), CallEnd(0)], []))
    assert f'"input":{text}'.encode() in whole.body()


def test_a_call_that_was_cut_off_does_not_look_whole() -> None:
    events: list[Event] = [CallStart(0, "call_1", "f"), CallArguments(0, '{"n": 1, "path": "/tmp/im')]
    streamed, body = play(steps(events, [1], "length"), tools=[TOOL])
    assert body["content"][0]["input"] == {"n": 1}
    assert body["stop_reason"] == "max_tokens"
    sent = "".join(event["delta"]["partial_json"] for event in streamed if "partial_json" in event.get("delta", {}))
    assert sent == '{"n": 1, "path": "/tmp/im'


def test_nothing_said_is_no_block() -> None:
    _, body = play([Delta(0, [], [], finish=Finish("stop"))])
    assert (body["content"], body["stop_reason"]) == ([], "end_turn")


def test_a_failing_stream_says_so_and_ends() -> None:
    request, _, generation, model = make()
    stream = messages.MessageStream(request, generation, model, SIGNER, **FIXED, request_id="req_1")
    for error, kind in ((EngineError("It broke."), "api_error"), (OverloadedError("Full."), "overloaded_error")):
        (event,) = events_of(stream.fail(error))
        told = {"type": kind, "message": error.message}
        assert event == {"type": "error", "error": told, "request_id": "req_1"}
        assert_valid("ErrorResponse", event)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequestError, 400, "invalid_request_error"),
        (ContextLengthError, 400, "invalid_request_error"),
        (AuthenticationError, 401, "authentication_error"),
        (PermissionDeniedError, 403, "permission_error"),
        (ModelNotFoundError, 404, "not_found_error"),
        (MethodNotAllowedError, 405, "invalid_request_error"),
        (RequestTooLargeError, 413, "request_too_large"),
        (UnsupportedMediaTypeError, 415, "invalid_request_error"),
        (RateLimitError, 429, "rate_limit_error"),
        (PorticoError, 500, "api_error"),
        (EngineError, 500, "api_error"),
        (EngineDeadError, 500, "api_error"),
        (RequestTimeoutError, 504, "timeout_error"),
        (OverloadedError, 529, "overloaded_error"),
    ],
)
def test_every_error_has_its_type(error: type[PorticoError], status: int, kind: str) -> None:
    raised = error("It went wrong.")
    assert errors.status(raised) == status
    body = json.loads(errors.body(raised, "req_1"))
    assert body == {"type": "error", "error": {"type": kind, "message": "It went wrong."}, "request_id": "req_1"}
    if status != 413:  # documented, but not among the SDK's types
        assert_valid("ErrorResponse", body)


class TestUsage:
    def test_cached_tokens_are_not_input(self) -> None:
        request, _, generation, model = make()
        stream = messages.MessageStream(request, generation, model, SIGNER, **FIXED, request_id="req_1")
        whole = messages.MessageBody(request, generation, model, SIGNER, **FIXED)
        (start, _) = events_of(stream.start())
        size = len(generation.spec.prompt_ids)
        assert start["message"]["usage"]["input_tokens"] == size
        ids = model.tokenizer.encode("Hello")
        delta = generation.choices[0].feed(EngineOutput("r1-0", ids, finish_reason="stop", cached_tokens=size - 2))
        assert delta is not None
        stream.feed(delta)
        whole.feed(delta)
        told = events_of(stream.finish())[-2]["usage"]
        assert told == {
            "input_tokens": 2,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": size - 2,
            "output_tokens": len(ids),
            "output_tokens_details": {"thinking_tokens": 0},
        }
        assert json.loads(whole.body())["usage"] == {**told, "service_tier": "standard"}


class TestRequests:
    def test_sampling(self) -> None:
        _, _, generation, _ = make(temperature=0.3, top_p=0.9, top_k=5, stop_sequences=["END"], max_tokens=7)
        sampling = generation.spec.sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.3, 0.9, 5, 7)
        assert generation.spec.stop == ["END"]
        assert make(top_p=0)[2].spec.sampling.top_k == 1  # only the most likely token is left

    def test_nothing_may_be_asked_for(self) -> None:
        """``max_tokens`` 0 reads the prompt into the cache."""
        assert make(max_tokens=0)[2].spec.sampling.max_tokens == 0

    def test_the_answer_is_cut_to_the_context(self) -> None:
        request, _, generation, model = make(max_tokens=100_000)
        assert generation.spec.sampling.max_tokens == model.context_length - len(generation.spec.prompt_ids)
        whole = messages.MessageBody(request, generation, model, SIGNER, **FIXED)
        whole.feed(Delta(0, [Content("x")], [1], finish=Finish("length")))
        assert json.loads(whole.body())["stop_reason"] == "model_context_window_exceeded"
        with pytest.raises(ContextLengthError, match=r"prompt is too long: \d+ tokens > 4095 maximum"):
            make(messages=[{"role": "user", "content": "x" * 5000}])

    @pytest.mark.parametrize(
        ("thinking", "means"),
        [
            ({"type": "enabled", "budget_tokens": 1024}, (True, 1024)),
            ({"type": "adaptive"}, (True, None)),
            ({"type": "disabled"}, (False, None)),
            ({"type": "between_tools"}, (False, None)),
            ({"type": "of_the_future", "depth": 3}, (None, None)),
            (None, (None, None)),
        ],
    )
    def test_thinking_switches(self, thinking: dict[str, Any] | None, means: tuple[bool | None, int | None]) -> None:
        asked = make(thinking=thinking, max_tokens=2000)[1]
        assert (asked.prompt_arguments["thinking"], asked.prompt_arguments["thinking_budget"]) == means

    def test_effort(self) -> None:
        assert make(output_config={"effort": "xhigh"})[1].prompt_arguments["reasoning_effort"] == "xhigh"

    def test_a_budget_over_max_tokens_needs_interleaved_thinking(self) -> None:
        request, asked, _, model = make()
        thinking = {"type": "enabled", "budget_tokens": 4096}
        request = request.model_copy(update={"thinking": type(request).model_validate(
            {"model": "m", "messages": MESSAGES, "max_tokens": 1, "thinking": thinking}).thinking})  # fmt: skip
        prompt = model.prompter.render_chat(**asked.prompt_arguments)
        with pytest.raises(BadRequestError) as caught:
            messages.generation(request, asked, prompt, model, "r1")
        assert caught.value.param == "max_tokens"
        messages.generation(request, asked, prompt, model, "r1", ["interleaved-thinking-2025-05-14"])

    def test_fields_without_a_meaning_here_are_known(self) -> None:
        request = make(
            metadata={"user_id": "u"}, service_tier="auto", cache_control={"type": "ephemeral"}, speed="standard",
            inference_geo="eu", diagnostics={}, tool_choice={"type": "auto", "disable_parallel_tool_use": True},
            mcp_servers=[], context_management={"edits": []}, temprature=1,
        )[0]  # fmt: skip
        assert request.unknown_fields == ["temprature"]

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"max_tokens": -1}, "max_tokens"),
            ({"max_tokens": None}, "max_tokens"),
            ({"model": None}, "model"),
            ({"messages": []}, "messages"),
            ({"messages": ["Hi"]}, "messages[0]"),
            ({"system": 5}, "system"),
            ({"system": [{"type": "text"}]}, "system[0].text"),
            ({"temperature": -0.1}, "temperature"),
            ({"temperature": "hot"}, "temperature"),
            ({"top_p": 1.1}, "top_p"),
            ({"top_k": -1}, "top_k"),
            ({"stop_sequences": [""]}, "stop_sequences"),
            ({"stop_sequences": ["x"] * 1000}, "stop_sequences"),
            ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
            ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "thinking.budget_tokens"),
            ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1000}, "max_tokens"),
            ({"tool_choice": {"type": "any"}}, "tool_choice"),
            ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, "tool_choice.name"),
            ({"tool_choice": {"type": "tool", "name": "x"}, "tools": [TOOL]}, "tool_choice.name"),
            ({"tools": [{"type": "web_search_20250305", "name": "x"}], "tool_choice": {"type": "any"}}, "tool_choice"),
            ({"tools": [TOOL] * 1000}, "tools"),
            ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
            ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ],
    )  # fmt: skip
    def test_refusals_name_the_field(self, fields: dict[str, Any], param: str) -> None:
        with pytest.raises(BadRequestError) as caught:
            make(**fields)
        assert caught.value.param == param
        assert len(caught.value.message) < 500


class TestPromises:
    """What is promised is enforced by the engine, or refused."""

    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False,
    }  # fmt: skip

    @pytest.mark.parametrize(
        "fields",
        [
            {"tools": [TOOL], "tool_choice": {"type": "any"}},
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "get_weather"}},
            {"tools": [{**TOOL, "input_schema": SCHEMA, "strict": True}]},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {"output_format": {"type": "json_schema", "schema": SCHEMA}},
        ],
    )
    def test_they_become_a_constraint(self, fields: dict[str, Any]) -> None:
        assert make(**fields)[2].spec.constraint is not None

    @pytest.mark.parametrize("fields", [{}, {"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": {"type": "none"}}])
    def test_where_nothing_is_promised_anything_goes(self, fields: dict[str, Any]) -> None:
        assert make(**fields)[2].spec.constraint is None

    def test_one_call_at_a_time(self) -> None:
        choice = {"type": "auto", "disable_parallel_tool_use": True}
        spec = make(tools=[TOOL], tool_choice=choice)[2].spec
        assert spec.parallel is False
        assert spec.constraint is not None

    def test_refusals_are_in_this_api_s_words(self) -> None:
        bad = {"type": "object", "properties": {"a": {"type": "nonsense"}}}
        wanted = {"output_config": {"format": {"type": "json_schema", "schema": bad}}}
        strict = {"tools": [{**TOOL, "input_schema": bad, "strict": True}]}
        for fields, field in ((wanted, "output_config.format.schema"), (strict, "tools[0].input_schema")):
            with pytest.raises(BadRequestError) as caught:
                make(**fields)
            told = json.loads(errors.body(caught.value, "req_1"))["error"]["message"]
            assert field in told
            assert "response_format" not in told
            assert "function" not in told


class TestModels:
    def cards(self, count: int) -> list[Card]:
        model = tiny_model()
        facts: dict[str, Any] = {"created": model.created, "capabilities": model.capabilities, "context_length": 4096}
        return [Card(name=f"m{i}", root="m0", **facts) for i in range(count)]

    def test_a_card(self) -> None:
        (card,) = (models.card(one) for one in self.cards(1))
        assert card["created_at"] == "2023-11-14T22:13:20Z"
        assert_valid("ModelInfo", card)

    def test_pages(self) -> None:
        cards = self.cards(5)
        first = models.page(cards, {"limit": "2"})
        assert ([c["id"] for c in first["data"]], first["has_more"]) == (["m0", "m1"], True)
        last = models.page(cards, {"limit": "4", "after_id": first["last_id"]})
        assert ([c["id"] for c in last["data"]], last["has_more"]) == (["m2", "m3", "m4"], False)
        back = models.page(cards, {"limit": "2", "before_id": "m4"})
        assert ([c["id"] for c in back["data"]], back["has_more"]) == (["m2", "m3"], True)
        assert models.page([], {}) == {"data": [], "has_more": False, "first_id": None, "last_id": None}
        for query in ({"limit": "0"}, {"limit": "x"}, {"limit": "9999"}, {"after_id": "nobody"}):
            with pytest.raises(BadRequestError):
                models.page(cards, query)
