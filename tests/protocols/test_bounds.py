"""What a body may hold is counted before it is parsed, however it is spelt, and the field that is over is named."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from portico import values
from portico.errors import BadRequestError
from portico.protocols import bounds
from portico.protocols.anthropic.schema import MessagesRequest
from portico.protocols.bounds import LARGE, MOST_IDS, check_bounds
from portico.protocols.grpc import wire
from portico.protocols.openai.embeddings import EmbeddingRequest
from portico.protocols.openai.schema import ChatRequest, CompletionRequest
from portico.protocols.openai.scoring import RerankRequest, ScoreRequest
from portico.protocols.openai.tokens import DetokenizeRequest, TokenizeRequest
from portico.protocols.validation import parse_body
from portico.protos import inference_pb2 as inference
from portico.protos import vllm_engine_pb2 as vllm_engine
from portico.values import MOST_VALUES
from support.effort import examples

MODELS: list[type[BaseModel]] = [
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ScoreRequest,
    RerankRequest,
    TokenizeRequest,
    DetokenizeRequest,
    MessagesRequest,
]
ITEMS = [b"1", b"{}", b"[]", b"null", b'"a"', b'{"a":1}', b'{"type":"x"}', b'[{"a":[{}]}]', b'"\\\\"', b'"\\""']
FIELDS = [(model, field.alias or name) for model in MODELS for name, field in model.model_fields.items()]


@pytest.mark.parametrize(("model", "field"), FIELDS, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_every_field_is_bounded_and_named(model: type[BaseModel], field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LARGE", 100)
    monkeypatch.setattr(bounds, "MOST_VALUES", 200)
    most = bounds._bounds(model).get(field, 200)
    for item in ITEMS if most == 200 else ITEMS[:1]:
        body = b'{"first":{"a":[{},[]],"b":"x"},"%b":[' % field.encode() + b",".join([item] * (most + 10)) + b"]}"
        with pytest.raises(BadRequestError) as refused:
            parse_body(model, body)
        assert refused.value.param == field
        assert refused.value.code == "too_many_values"


def test_as_many_as_may_be_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LARGE", 0)
    monkeypatch.setattr(bounds, "_bounds", lambda model: {"tokens": 50})
    check_bounds(b'{"tokens":[%b]}' % b",".join([b"1"] * 50), DetokenizeRequest)
    with pytest.raises(BadRequestError, match="may hold 50 values"):
        check_bounds(b'{"tokens":[%b]}' % b",".join([b"1"] * 51), DetokenizeRequest)


@pytest.mark.parametrize("space", [b"", b" ", b"\n\t"])
def test_deep_inside_and_with_any_spacing(space: bytes) -> None:
    inside = b",".join([b'{"type":%b"strange"}' % space] * MOST_VALUES)
    body = b'{"model":"\\"x","messages"%b:%b[{"role":"user","content":[%b]}],"tools":[]}' % (space, space, inside)
    with pytest.raises(BadRequestError, match="'messages'"):
        check_bounds(body, MessagesRequest)


@pytest.mark.parametrize("name", ["prompt", "a b", "x" * 64, "x" * 65, "ü", "a-b", 'a\\"b', "", "x" * 500])
@pytest.mark.parametrize("around", [(b"", b""), (b" ", b"\n\t"), (b"\r\n" + b" " * 40, b" ")])
def test_only_names_are_named(name: str, around: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever spacing; what could be no field's name is not repeated."""
    monkeypatch.setattr(bounds, "LARGE", 100)
    monkeypatch.setattr(bounds, "MOST_VALUES", 200)
    before, behind = around
    inside = b",".join([b'["stop"]'] * 300)
    body = b'{"first":"x",%b"%b"%b:%b[%b]}' % (before, name.encode(), behind, before, inside)
    with pytest.raises(BadRequestError) as refused:
        check_bounds(body, EmbeddingRequest)
    told = re.fullmatch("[a-z]{1,64}", name) is not None
    assert refused.value.param == (name if told else None)
    assert refused.value.message.endswith(f"'{name}' brings it over: send less." if told else "It is over: send less.")


def test_bytes_that_are_no_text_are_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LARGE", 100)
    monkeypatch.setattr(bounds, "MOST_VALUES", 200)
    for start in (b'{"\xff":[', b"["):
        with pytest.raises(BadRequestError) as refused:
            check_bounds(start + b"1," * 300, EmbeddingRequest)
        assert (refused.value.param, refused.value.code) == (None, "too_many_values")


def test_a_value_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field with a larger bound does not lend it to those that say its name."""
    monkeypatch.setattr(bounds, "LARGE", 100)
    monkeypatch.setattr(bounds, "MOST_VALUES", 200)
    for member in (b'"a":"prompt"', b'"a" : "prompt" ', b'"a":["prompt"]', b'"a":{"prompt":1}'):
        with pytest.raises(BadRequestError):
            check_bounds(b"{%b}" % b",".join([member] * 300), CompletionRequest)


def test_strings_are_counted_in_all_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LARGE", 100)
    monkeypatch.setattr(bounds, "MOST_PARTS", 60)
    monkeypatch.setattr(values, "PIECE", 20)
    check_bounds(b'{"a":"%b"}' % (b"x" * 300), ChatRequest)
    with pytest.raises(BadRequestError):
        check_bounds(b'{"a":%b}' % (b'"xxxxxxxx"' * 40), ChatRequest)


def test_a_name_that_is_escaped_does_not_get_a_larger_bound() -> None:
    body = b'{"\\u0070rompt":[' + b",".join([b"1"] * (MOST_VALUES + 1)) + b"]}"
    with pytest.raises(BadRequestError):
        check_bounds(body, CompletionRequest)


@pytest.mark.parametrize("text", ['"', "\\", '\\"', ",", "[{", "a\\", "é,", "\n"])
def test_what_stands_in_strings_counts_nothing(text: str) -> None:
    check_bounds(json.dumps({"messages": [{"role": "user", "content": text * 1_000_000}]}).encode(), ChatRequest)


def test_ids_have_a_bound_of_their_own() -> None:
    ids = list(range(MOST_IDS - 10))
    assert list(parse_body(DetokenizeRequest, json.dumps({"tokens": ids}).encode()).tokens) == ids
    with pytest.raises(BadRequestError) as refused:
        parse_body(DetokenizeRequest, json.dumps({"tokens": [*ids, *ids[:20]]}).encode())
    assert refused.value.param == "tokens"


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(['"', "\\", '\\"', "}],"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=30,
)


@settings(max_examples=examples(80))
@given(value=st.dictionaries(st.text(max_size=4), anything, max_size=5), piece=st.integers(1, 40))
def test_cuts_make_no_difference(value: dict[str, Any], piece: int) -> None:
    """The count is that of the values, wherever pieces end; with the bound one lower the body is refused."""
    body = json.dumps(value).encode()
    count = _count(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "LARGE", 0)
        patch.setattr(values, "PIECE", piece)
        patch.setattr(bounds, "MOST_VALUES", count)
        patch.setattr(bounds, "MOST_PARTS", 10**6)
        assert values.values(body.decode()) == count
        check_bounds(body, RerankRequest)
        patch.setattr(bounds, "MOST_VALUES", count - 1)
        with pytest.raises(BadRequestError):
            check_bounds(body, RerankRequest)


def _count(value: object) -> int:
    """As the module counts: a sign that opens a list or an object, and every comma."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(0, len(inner) - 1) + sum(map(_count, inner))


@pytest.mark.parametrize("body", [b'"' * 3_000_000, b"[" * 3_000_000, b'{"a":"' + b"\\" * 3_000_001, b"," * 3_000_000])
def test_what_is_no_json_is_refused_all_the_same(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_body(ChatRequest, body)


class TestGrpc:
    @pytest.mark.parametrize(
        ("data", "kind", "field"),
        [
            (inference.ChatRequest(messages=[{}] * (MOST_VALUES + 1)), inference.ChatRequest, "messages"),
            (inference.ChatRequest(tools=[{}] * (MOST_VALUES + 1)), inference.ChatRequest, "tools"),
            (
                inference.CompleteRequest(sampling={"stop": ["a"] * (MOST_VALUES + 1)}),
                inference.CompleteRequest,
                "stop",
            ),
            (inference.CompleteRequest(tokens={"ids": [1] * (MOST_IDS + 1)}), inference.CompleteRequest, "ids"),
            (inference.EmbedRequest(inputs=[{}] * (MOST_VALUES + 1)), inference.EmbedRequest, "inputs"),
            (
                vllm_engine.GenerateRequest(tokenized={"input_ids": [300] * (MOST_IDS + 1)}),
                vllm_engine.GenerateRequest,
                "input_ids",
            ),
            (vllm_engine.AbortRequest(request_ids=["a"] * (MOST_VALUES + 1)), vllm_engine.AbortRequest, "request_ids"),
        ],
        ids=lambda one: one if isinstance(one, str) else "",
    )
    def test_messages_are_bounded(self, data: Any, kind: Any, field: str) -> None:
        with pytest.raises(BadRequestError) as refused:
            wire.check_bounds(data.SerializeToString(), kind.DESCRIPTOR)
        assert refused.value.param == field

    def test_what_is_within_passes(self) -> None:
        message = inference.ChatRequest(messages=[{"role": "user", "content": "x" * 1000}] * 1000)
        assert len(message.SerializeToString()) > LARGE
        wire.check_bounds(message.SerializeToString(), inference.ChatRequest.DESCRIPTOR)

    @settings(max_examples=examples(80))
    @given(data=st.binary(max_size=200))
    def test_any_bytes_end(self, data: bytes) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wire, "LARGE", 0)
            wire.check_bounds(data, inference.ChatRequest.DESCRIPTOR)
