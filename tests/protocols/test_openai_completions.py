"""Completions: the stream of any deltas, of any number of prompts and choices, folds to the body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.errors import BadRequestError, NotSupportedError
from portico.events import Content, EngineOutput, Reasoning, TokenLogprob
from portico.generation import Delta, Generation, Model
from portico.prompting import Prompt
from portico.protocols.openai import completions
from portico.protocols.openai.schema import CompletionRequest
from portico.protocols.validation import parse_fields
from support.effort import examples
from support.generation import answers, tiny_model
from support.openapi import assert_valid

ABLE = frozenset({"generate", "logprobs", "prompt_logprobs"})


def plain(logprobs: bool = False) -> st.SearchStrategy[list[Delta]]:
    """The deltas of a text in which nothing is thought or called."""

    def as_content(deltas: list[Delta]) -> list[Delta]:
        for delta in deltas:
            delta.events = [Content(event.text) for event in delta.events if isinstance(event, Content | Reasoning)]
        return deltas

    return answers(calls=False, logprobs=logprobs).map(as_content)


def make(**fields: Any) -> tuple[CompletionRequest, list[Generation], list[Prompt], Model]:
    if "stream_options" in fields:
        fields["stream"] = True
    request = parse_fields(CompletionRequest, {"prompt": "Once", "max_tokens": 100, **fields})
    model = tiny_model(capabilities=ABLE)
    prompts = [model.prompter.encode(one) for one in completions.prompts(request, model)]
    return request, completions.generations(request, prompts, model, "r1"), prompts, model


def play(deltas: list[list[list[Delta]]], **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The stream's chunks and the whole body of the same deltas, by prompt and choice; choices take turns."""
    request, generations, prompts, model = make(**fields)
    for generation in generations:
        for choice in generation.choices:
            _score_prompt(generation, choice)
    stream = completions.CompletionStream(request, generations, prompts, model, 1)
    whole = completions.CompletionBody(request, generations, prompts, model, 1)
    data = stream.start()
    queues = [(p, n, list(one)) for p, by_choice in enumerate(deltas) for n, one in enumerate(by_choice)]
    while queues:
        position, index, queue = queues.pop(0)
        delta = queue.pop(0)
        delta.index = index
        data += stream.feed(delta, position)
        whole.feed(delta, position)
        if queue:
            queues.append((position, index, queue))
    data += stream.finish()
    frames = data.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]], json.loads(whole.body())


def _score_prompt(generation: Generation, choice: Any) -> None:
    ids = generation.spec.prompt_ids
    choice.feed(EngineOutput("r", (), prompt_logprobs=[None, *(TokenLogprob(i, -1.0, ((i, -1.0),)) for i in ids[1:])]))


def fold(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            one = found.setdefault(choice["index"], {"text": "", "logprobs": None, "ends": 0, "token_ids": []})
            one["text"] += choice["text"]
            one["token_ids"] += choice.get("token_ids", [])
            if choice["logprobs"] is not None:
                before = one["logprobs"] or {key: [] for key in choice["logprobs"]}
                one["logprobs"] = {key: before[key] + choice["logprobs"][key] for key in before}
            if choice["finish_reason"] is not None:
                one["finish_reason"] = choice["finish_reason"]
                one["ends"] += 1
    return found


@settings(max_examples=examples(40))
@given(data=st.data())
def test_the_stream_folds_to_the_body(data: st.DataObject) -> None:
    prompts = data.draw(st.lists(st.sampled_from(["Once", "é", "two words"]), min_size=1, max_size=2))
    n = data.draw(st.integers(1, 2))
    fields: dict[str, Any] = {
        "prompt": prompts if len(prompts) > 1 else prompts[0],
        "n": n,
        "echo": data.draw(st.booleans()),
        "logprobs": data.draw(st.sampled_from([None, 1])),
        "return_token_ids": True,
    }
    usage = data.draw(st.booleans())
    if usage:
        fields["stream_options"] = {"include_usage": True}
    texts = plain(logprobs=fields["logprobs"] is not None)
    deltas = [[data.draw(texts) for _ in range(n)] for _ in prompts]
    chunks, body = play(deltas, **fields)
    folded = fold(chunks)
    assert sorted(folded) == [choice["index"] for choice in body["choices"]] == list(range(n * len(prompts)))
    for choice in body["choices"]:
        one = folded[choice["index"]]
        assert one.pop("ends") == 1
        assert one == {key: choice[key] for key in one}
        if fields["echo"]:
            assert choice["text"].startswith(prompts[choice["index"] // n])
        if choice["logprobs"] is not None:
            assert len({len(values) for values in choice["logprobs"].values()}) == 1
            assert choice["logprobs"]["text_offset"] == sorted(choice["logprobs"]["text_offset"])
    assert len({chunk["id"] for chunk in chunks} | {body["id"]}) == 1
    assert chunks[0]["system_fingerprint"] == chunks[-1]["system_fingerprint"] == body["system_fingerprint"]
    seen = set()
    for chunk in chunks:
        for choice in chunk["choices"]:
            outer = choice["index"] not in seen or choice["finish_reason"] is not None
            assert ("system_fingerprint" in chunk, "prompt_token_ids" in choice) == (outer, choice["index"] not in seen)
            seen.add(choice["index"])
    if usage:
        assert chunks[-1]["usage"] == body["usage"]
        assert chunks[-1]["choices"] == []


@settings(max_examples=examples(20))
@given(deltas=plain(logprobs=True))
def test_everything_validates_against_openai(deltas: list[Delta]) -> None:
    """But for what OpenAI's own streams do and its description leaves out: null up to the end, and up to the usage."""
    chunks, body = play([[deltas]], logprobs=1, stream_options={"include_usage": True})
    assert_valid("CreateCompletionResponse", body)
    for chunk in chunks:
        for choice in chunk["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        if chunk["usage"] is None:
            del chunk["usage"]
        assert_valid("CreateCompletionResponse", chunk)


@settings(max_examples=examples(20))
@given(deltas=plain())
def test_no_tokens_and_an_echo_is_the_prompt(deltas: list[Delta]) -> None:
    chunks, body = play([[deltas]], max_tokens=0, echo=True)
    assert body["choices"][0]["text"] == fold(chunks)[0]["text"] == "Once"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[1], []]}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"suffix": "end", "echo": True}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": ["a"] * 300}, "prompt"),
    ],
)
def test_what_is_refused_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises((BadRequestError, NotSupportedError)) as caught:
        make(**fields)
    assert caught.value.param == param
