"""Chat completions: every event sequence that parsing can produce gives a legal stream, and the stream folds to the
body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from portico.errors import BadRequestError, ContextLengthError, EngineError
from portico.events import Content, EngineOutput
from portico.generation import Delta
from portico.protocols.openai import chat
from portico.protocols.openai.schema import ChatRequest
from portico.protocols.validation import parse_body, parse_fields
from support.effort import examples
from support.generation import answers, tiny_model
from support.openapi import assert_valid

MESSAGES = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def make(**fields: Any) -> tuple[ChatRequest, Any, Any]:
    body = {"messages": MESSAGES, "max_tokens": 100, **fields}
    if "stream_options" in fields:
        body["stream"] = True
    request = parse_body(ChatRequest, json.dumps(body).encode())
    model = tiny_model()
    prompt = model.prompter.render_chat(**chat.prompt_arguments(request))
    return request, chat.generation(request, prompt, model, "r1"), model


def play(deltas: list[Delta], **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The stream's chunks and the whole body of the same deltas."""
    request, generation, model = make(**fields)
    stream = chat.ChatStream(request, generation, model, 1)
    whole = chat.ChatBody(request, generation, model, 1)
    data = stream.start()
    for delta in deltas:
        data += stream.feed(delta)
        whole.feed(delta)
    data += stream.finish()
    frames = data.decode().split("\n\n")
    assert frames.pop() == ""
    assert frames.pop() == "data: [DONE]"
    assert all(frame.startswith("data: {") and "\n" not in frame for frame in frames)
    return [json.loads(frame[6:]) for frame in frames], json.loads(whole.body())


def fold(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What OpenAI's own accumulator makes of the stream."""
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk, strict=True))
    return state.current_completion_snapshot.model_dump(mode="json", exclude_unset=True)


def calls(found: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in found]


def test_one_call_at_most_needs_no_grammar() -> None:
    """Where the engine has none, reading stops behind the first call."""
    fields = {"messages": MESSAGES, "tools": [TOOL], "parallel_tool_calls": False}
    for able in (set(), {"constraints"}):
        model = tiny_model(capabilities=frozenset({"generate", *able}), tool_parser="hermes")
        request = parse_fields(ChatRequest, fields)
        prompt = model.prompter.render_chat(**chat.prompt_arguments(request))
        spec = chat.generation(request, prompt, model, "r1").spec
        assert (spec.constraint is not None, spec.parallel) == (bool(able), False)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_what_was_going_to_be_a_call_is_not_shown(choice: Any) -> None:
    """A forced call that is cut off before it is one leaves nothing behind, least of all its markup."""
    model = tiny_model(capabilities=frozenset({"generate", "constraints"}))
    fields = {"messages": MESSAGES, "tools": [TOOL], "tool_choice": choice}
    request = parse_fields(ChatRequest, fields)
    prompt = model.prompter.render_chat(**chat.prompt_arguments(request))
    text = '[{"name": "f", "argu'
    for cut in range(len(text)):
        (one,) = chat.generation(request, prompt, model, "r1").choices
        ids = model.tokenizer.encode(text[:cut])
        delta = one.feed(EngineOutput("r", ids, finish_reason="length"))
        assert delta is not None
        assert [event for event in delta.events if isinstance(event, Content)] == []


def test_hosted_tools_are_left_out() -> None:
    request = parse_fields(
        ChatRequest,
        {"messages": MESSAGES, "tools": [{"type": "web_search"}, TOOL, {"type": "mcp", "x": 1}]},
    )
    assert request.client_tools == [TOOL]
    assert [words.split(",")[0] for words in request.hosted_tools] == ["tools[0] (web_search", "tools[2] (mcp"]
    only = parse_fields(ChatRequest, {"messages": MESSAGES, "tools": [{"type": "web_search"}]})
    assert only.client_tools is None
    model = tiny_model()
    forced = only.model_copy(update={"tool_choice": "required"})
    prompt = model.prompter.render_chat(forced.messages)
    with pytest.raises(BadRequestError):
        chat.generation(forced, prompt, model, "r1")


@settings(max_examples=examples(80))
@given(deltas=answers(), usage=st.booleans(), ids=st.booleans())
def test_stream_folds_to_the_body(deltas: list[Delta], usage: bool, ids: bool) -> None:
    fields: dict[str, Any] = {"return_token_ids": ids}
    if usage:
        fields["stream_options"] = {"include_usage": True}
    chunks, body = play(deltas, **fields)
    folded = fold(chunks)["choices"][0]
    whole = body["choices"][0]
    assert folded["finish_reason"] == whole["finish_reason"]
    assert (folded["message"].get("content") or "") == (whole["message"]["content"] or "")
    thought = folded["message"].get("reasoning", "")
    assert thought == whole["message"].get("reasoning", "")
    details = [{"type": "reasoning.text", "index": 0, "text": thought}]
    assert whole["message"].get("reasoning_details", []) == (details if thought else [])
    assert calls(folded["message"].get("tool_calls") or []) == calls(whole["message"].get("tool_calls", []))
    roles = [c["choices"][0]["delta"]["role"] for c in chunks if c["choices"] and "role" in c["choices"][0]["delta"]]
    assert roles == ["assistant"]
    finishes = [c for c in chunks for choice in c["choices"] if choice["finish_reason"] is not None]
    assert len(finishes) == 1
    named = [chunk for chunk in chunks if "system_fingerprint" in chunk]
    assert named == [chunks[0], *finishes, *chunks[-1:] * usage]
    assert fold(chunks)["system_fingerprint"] == body["system_fingerprint"]
    assert not any("logprobs" in choice for chunk in chunks for choice in chunk["choices"])
    assert_valid("CreateChatCompletionStreamResponse", chunks[len(chunks) // 2])
    if usage:
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"] == body["usage"]
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
    else:
        assert all("usage" not in chunk for chunk in chunks)
    if ids:
        streamed = [i for c in chunks for choice in c["choices"] for i in choice.get("token_ids", ())]
        assert streamed == whole["token_ids"] == [i for delta in deltas for i in delta.token_ids]


@settings(max_examples=examples(25))
@given(deltas=answers(logprobs=True))
def test_no_logprob_is_lost(deltas: list[Delta]) -> None:
    chunks, body = play(deltas, logprobs=True, top_logprobs=2)
    streamed = [
        entry
        for chunk in chunks
        for choice in chunk["choices"]
        for entry in (choice["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == body["choices"][0]["logprobs"]["content"]
    assert len(streamed) == sum(len(delta.token_ids) for delta in deltas)
    assert all(len(entry["top_logprobs"]) == 2 for entry in streamed)


@settings(max_examples=examples(20))
@given(deltas=answers(logprobs=True), usage=st.booleans())
def test_everything_validates_against_openai(deltas: list[Delta], usage: bool) -> None:
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": 2}
    if usage:
        fields["stream_options"] = {"include_usage": True}
    chunks, body = play(deltas, **fields)
    for chunk in chunks:
        assert_valid("CreateChatCompletionStreamResponse", chunk)
    assert_valid("CreateChatCompletionResponse", body)


def test_a_failing_stream_says_so_and_ends() -> None:
    request, generation, model = make()
    data = chat.ChatStream(request, generation, model, 1).fail(EngineError("It broke."))
    error, done, rest = data.split(b"\n\n")
    assert json.loads(error[6:])["error"]["message"] == "It broke."
    assert_valid("ErrorResponse", json.loads(error[6:]))
    assert (done, rest) == (b"data: [DONE]", b"")


def test_reasoning_can_be_left_out() -> None:
    from portico.events import Content, Finish, Reasoning

    deltas = [Delta(0, [Reasoning("hm"), Content("yes")], [1]), Delta(0, [], [], finish=Finish("stop"))]
    chunks, body = play(deltas, include_reasoning=False)
    assert "hm" not in json.dumps([chunks, body])


def test_the_answer_is_cut_to_the_context() -> None:
    _, generation, model = make(max_tokens=None)
    assert generation.spec.sampling.max_tokens == model.context_length - len(generation.spec.prompt_ids)
    with pytest.raises(ContextLengthError):
        make(messages=[{"role": "user", "content": "x" * 5000}])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "1"}, "temperature"),
        ({"temperature": float("1e999")}, "temperature"),
        ({"messages": [1]}, "messages[0]"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"allowed_token_ids": [10**9]}, "allowed_token_ids"),
        ({"stop_token_ids": [10**9]}, "stop_token_ids"),
        ({"min_tokens": 101}, "min_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"n": 65}, "n"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ],
)
def test_what_is_refused_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        make(**fields)
    assert caught.value.param == param
    assert len(caught.value.message) < 1000


@settings(max_examples=examples(60))
@given(
    st.dictionaries(
        st.sampled_from([*ChatRequest.model_fields, "made_up"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_no_body_does_more_than_be_refused(fields: dict[str, Any]) -> None:
    try:
        make(**fields)
    except BadRequestError:
        pass
