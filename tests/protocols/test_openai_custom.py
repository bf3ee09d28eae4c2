"""Custom tools in chat completions: inwards functions of one text, outwards that text, whole and in any pieces."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from portico.events import CallArguments, CallEnd, CallStart, Finish
from portico.generation import Delta
from portico.protocols.openai import chat
from portico.protocols.openai.custom import InputText, as_function_choice, as_functions, with_function_calls
from portico.protocols.openai.schema import ChatRequest
from portico.protocols.validation import parse_body
from support.custom_tools import CASES, tool
from support.effort import examples
from support.generation import tiny_model

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def pieces(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[begin:end] for begin, end in pairwise(edges)]


@settings(max_examples=examples(80))
@given(texts, st.lists(st.integers(0, 200), max_size=8), st.booleans(), st.sampled_from(["input", "patch", 'a"b']))
def test_the_text_comes_out_of_any_pieces(text: str, cuts: list[int], escaped: bool, name: str) -> None:
    arguments = json.dumps({name: text}, ensure_ascii=escaped)
    reader = InputText()
    found = "".join(map(reader.feed, pieces(arguments, cuts)))
    assert found + reader.close() == text
    assert reader.close() == ""


@settings(max_examples=examples(25))
@given(st.one_of(st.just("{}"), st.integers().map(lambda n: json.dumps({"n": n}))), st.lists(st.integers(0, 9)))
def test_arguments_without_a_text_are_the_input_themselves(arguments: str, cuts: list[int]) -> None:
    reader = InputText()
    assert "".join(map(reader.feed, pieces(arguments, cuts))) + reader.close() == arguments


def made(text: str, cuts: list[int]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The stream's chunks and the whole body of an answer with one call of a custom tool and one of a function."""
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 50,
        "tools": [tool(CASES["sum"]), {"type": "function", "function": {"name": "other"}}],
    }
    request = parse_body(ChatRequest, json.dumps(body).encode())
    model = tiny_model()
    prompt = model.prompter.render_chat(**chat.prompt_arguments(request))
    generation = chat.generation(request, prompt, model, "r1")
    assert generation.spec.constraint is None
    assert list(generation.spec.left_out) == ["grammar of write"]  # told: this engine cannot
    stream = chat.ChatStream(request, generation, model, 1)
    whole = chat.ChatBody(request, generation, model, 1)
    arguments = pieces(json.dumps({"input": text}, ensure_ascii=False), cuts)
    events: list[Any] = [CallStart(0, "call_0", "write"), *(CallArguments(0, one) for one in arguments), CallEnd(0)]
    events += [CallStart(1, "call_1", "other"), CallArguments(1, "{}"), CallEnd(1)]
    data = stream.start()
    for delta in (Delta(0, events, []), Delta(0, [], [], finish=Finish("tool_calls"))):
        data += stream.feed(delta)
        whole.feed(delta)
    frames = [json.loads(frame[6:]) for frame in data.decode().split("\n\n") if frame]
    return frames, json.loads(whole.body())


@settings(max_examples=examples(20))
@given(texts, st.lists(st.integers(0, 200), max_size=6))
def test_the_stream_folds_to_the_body(text: str, cuts: list[int]) -> None:
    chunks, body = made(text, cuts)
    calls = ChatCompletion.model_validate(body).choices[0].message.tool_calls
    assert calls is not None
    first, second = (call.model_dump(exclude_unset=True) for call in calls)
    assert first == {"id": "call_0", "type": "custom", "custom": {"name": "write", "input": text}}
    assert second == {"id": "call_1", "type": "function", "function": {"name": "other", "arguments": "{}"}}
    deltas = [one for chunk in chunks for one in chunk["choices"][0]["delta"].get("tool_calls", ())]
    streamed = [delta for delta in deltas if delta["index"] == 0]
    assert streamed[0] == {"index": 0, "id": "call_0", "type": "custom", "custom": {"name": "write", "input": ""}}
    assert all(set(delta) == {"index", "custom"} and delta["custom"]["input"] for delta in streamed[1:])
    assert "".join(delta["custom"]["input"] for delta in streamed) == text


def test_inwards_a_custom_tool_is_a_function_that_shows_its_grammar() -> None:
    [function] = as_functions([tool(CASES["regex"])]) or []
    assert function["type"] == "function"
    assert CASES["regex"].definition in function["function"]["description"]
    assert function["function"]["parameters"]["required"] == ["input"]


def test_calls_in_the_history_are_calls_of_functions() -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "write", "input": 'a "b"\n'}}
    [message] = with_function_calls([{"role": "assistant", "tool_calls": [call, {"id": "d", "type": "function"}]}])
    first, second = message["tool_calls"]
    assert first["function"] == {"name": "write", "arguments": json.dumps({"input": 'a "b"\n'})}
    assert second == {"id": "d", "type": "function"}


def test_choices_as_parsers_know_them() -> None:
    named = {"type": "function", "function": {"name": "write"}}
    assert as_function_choice({"type": "custom", "custom": {"name": "write"}}) == named
    assert as_function_choice(named) == named
    allowed = {"mode": "required", "tools": [{"type": "custom", "custom": {"name": "write"}}]}
    assert as_function_choice({"type": "allowed_tools", "allowed_tools": allowed}) == "required"
    assert as_function_choice(None) == "auto"
