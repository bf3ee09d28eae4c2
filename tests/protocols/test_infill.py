"""llama.cpp's /infill: what is asked becomes a completion, and what the completion says is answered in its words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from portico.errors import EngineError
from portico.events import Content, SamplingParams
from portico.generation import Delta, Generation, GenerationSpec
from portico.protocols.llamacpp import InfillBody, InfillRequest, InfillStream, completion_request
from portico.protocols.validation import parse_fields
from support.generation import answers, tiny_model

GAP = {"input_prefix": "a", "input_suffix": "b"}
MODEL = tiny_model()
FACTS = {"model": "tiny", "index": 0, "tokens": [], "stop": True, "truncated": False}


def asked(**more: Any) -> InfillRequest:
    return parse_fields(InfillRequest, {**GAP, **more})


def generated(cached: int | None = 3) -> Generation:
    spec = GenerationSpec(request_id="r", prompt_ids=list(range(7)), sampling=SamplingParams(max_tokens=9))
    generation = Generation(spec, MODEL.tokenizer)
    choice: Any = generation.choices[0]
    choice.completion_tokens, choice.cached_tokens = 5, cached
    return generation


SAME = {
    "model": "m",
    "stop": ["x", "y"],
    "seed": 4,
    "temperature": 0.5,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.1,
    "presence_penalty": 1.5,
    "frequency_penalty": -1.5,
}


def test_how_to_draw_is_taken_over_word_by_word() -> None:
    for said in ({}, SAME, *({name: value} for name, value in SAME.items())):
        found = completion_request(asked(**said), [1, 2])
        assert found.prompt == [1, 2]
        assert {name: getattr(found, name) for name in SAME} == {**dict.fromkeys(SAME), **said}
    assert completion_request(asked(repeat_penalty=1.5), []).repetition_penalty == 1.5
    assert completion_request(asked(), []).repetition_penalty is None


@pytest.mark.parametrize(("wanted", "most"), [(None, -1), (-1, -1), (0, 1), (1, 1), (2, 2), (500, 500)])
def test_how_many_tokens(wanted: int | None, most: int) -> None:
    assert completion_request(asked(n_predict=wanted), []).max_tokens == most


@pytest.mark.parametrize(("wanted", "most"), [(-7, -1), (-1, -1), (0, 0), (1, 1), (40, 40)])
def test_of_how_many_candidates(wanted: int, most: int) -> None:
    assert completion_request(asked(top_k=wanted), []).top_k == most


def test_other_files_have_names() -> None:
    assert asked().files == []
    extra = [{"text": "a"}, {"text": "b", "filename": ""}, {"text": "c", "filename": "n"}]
    assert asked(input_extra=extra).files == [("file", "a"), ("file", "b"), ("n", "c")]


def whole(deltas: list[Delta], generation: Generation, **more: Any) -> dict[str, Any]:
    encoder = InfillBody(asked(**more), generation, MODEL)
    for delta in deltas:
        encoder.feed(delta, 0)
    return dict(json.loads(encoder.body()))


def streamed(deltas: list[Delta], generation: Generation, **more: Any) -> list[dict[str, Any]]:
    encoder = InfillStream(asked(**more), generation, MODEL)
    data = encoder.start() + b"".join(encoder.feed(delta) for delta in deltas) + encoder.finish()
    events = data.decode().split("\n\n")
    assert events.pop() == ""
    return [json.loads(event.removeprefix("data: ")) for event in events]


@given(answers(calls=False))
def test_stream_folds_to_the_body(deltas: list[Delta]) -> None:
    text = "".join(event.text for delta in deltas for event in delta.events if isinstance(event, Content))
    last = deltas[-1]
    word = last.stop_reason if isinstance(last.stop_reason, str) else ""
    assert last.finish is not None
    kind = "word" if word else "limit" if last.finish.reason == "length" else "eos"
    counted = {"tokens_predicted": 5, "tokens_evaluated": 7, "tokens_cached": 3}
    body = whole(deltas, generated())
    assert body == {**FACTS, **counted, "content": text, "stop_type": kind, "stopping_word": word}
    *pieces, end = streamed(deltas, generated())
    assert end == {**body, "content": ""}
    assert "".join(piece["content"] for piece in pieces) == text
    assert all(piece == {"index": 0, "content": piece["content"], "tokens": [], "stop": False} for piece in pieces)
    assert all(piece["content"] for piece in pieces), "no event says nothing"
    into_the_cache = {**body, "content": "", "tokens_predicted": 0}
    assert whole(deltas, generated(), n_predict=0) == into_the_cache
    assert streamed(deltas, generated(), n_predict=0) == [into_the_cache]
    assert whole(deltas, generated(None))["tokens_cached"] == 0
    for wanted in (["content"], ["stop", "content", "unheard of"], ["nothing of it"]):
        assert list(whole(deltas, generated(), response_fields=wanted)) == [one for one in wanted if one in body]
    assert whole(deltas, generated(), response_fields=[]) == body


def test_before_the_first_token_nothing_is_known() -> None:
    assert streamed([], generated()) == [whole([], generated())]
    assert whole([], generated())["stop_type"] == "eos"
    stream = InfillStream(asked(), generated(), MODEL)
    assert stream.keep_alive().startswith(b":")
    failed = stream.fail(EngineError("It died."))
    assert json.loads(failed.partition(b"data: ")[2].partition(b"\n")[0])["error"]["message"] == "It died."
