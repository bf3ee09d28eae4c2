"""What a trace says of origins is true for every family: an event's characters are in the text that it is said to be
made from, every piece of text becomes part of an event, and looking on changes nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import pytest

from portico.events import CallStart, EngineOutput, SamplingParams
from portico.generation import Delta, Generation, GenerationSpec, watched
from portico.trace import Head, Trace
from support.effort import examples
from support.generation import tiny_tokenizer
from support.streams import REASONING_PARSERS, TOOL_PARSERS, TOOLS, sample_answers, thought


def generation(tool_parser: str | None, reasoning_parser: str | None) -> Generation:
    spec = GenerationSpec(
        request_id="r",
        prompt_ids=[1],
        sampling=SamplingParams(max_tokens=10_000),
        tool_parser=tool_parser,
        reasoning_parser=reasoning_parser,
        tools=TOOLS if tool_parser else (),
    )
    return Generation(spec, tiny_tokenizer())


def outputs(text: str, seed: int) -> list[EngineOutput]:
    """The text in steps of one to eight bytes, characters cut apart."""
    ids = tiny_tokenizer().encode(text, parse_special=False)
    sizes = random.Random(seed)
    steps = []
    while ids:
        size = sizes.randint(1, 8)
        steps.append(EngineOutput("r", ids[:size]))
        ids = ids[size:]
    steps.append(EngineOutput("r", (), finish_reason="stop"))
    return steps


def traced(text: str, tool_parser: str | None, reasoning_parser: str | None, seed: int) -> tuple[list[Delta], Trace]:
    made = generation(tool_parser, reasoning_parser)
    ticks = iter(range(1_000_000))
    trace = Trace(Head("tr", "r", "POST", "/", 0.0, False), lambda: float(next(ticks)), 0.0, lambda head: None)
    trace.requested({})
    trace.submitting([made])
    feed = watched(made.choices[0], [trace.watch(made.choices[0], 0)], lambda: 0.0)
    deltas = [delta for output in outputs(text, seed) if (delta := feed(output)) is not None]
    trace.ended("ok")
    return deltas, trace


def untraced(text: str, tool_parser: str | None, reasoning_parser: str | None, seed: int) -> list[Delta]:
    choice = generation(tool_parser, reasoning_parser).choices[0]
    return [delta for output in outputs(text, seed) if (delta := choice.feed(output)) is not None]


def shape(deltas: Sequence[Delta]) -> list[Any]:
    """The deltas, call ids put aside: they are made up anew each time."""
    return [
        (
            [(event.index, event.name) if isinstance(event, CallStart) else event for event in delta.events],
            list(delta.token_ids),
            delta.finish,
        )
        for delta in deltas
    ]


def words(data: dict[str, Any]) -> str:
    """The letters and digits that an event tells; literals are spelled differently from family to family."""
    told = data.get("text") or data.get("json_fragment") or ""
    if data["type"] == "CallArguments":
        told = re.sub(r"\b(true|false|null)\b|\\[nrt]|\\u[0-9a-f]{4}", "", told)
    return "".join(char for char in told if char.isalnum()).lower()


def is_within(wanted: str, text: str) -> bool:
    """Whether the characters come in this order."""
    rest = iter(text.lower())
    return all(char in rest for char in wanted)


def assert_true(trace: Trace) -> None:
    artifacts = trace.artifacts
    used: set[int] = set()
    for one in artifacts:
        if one.kind == "event":
            used.update(one.of)
            texts = [artifacts[id].data["text"] for id in one.of if artifacts[id].kind == "text"]
            assert is_within(words(one.data), "".join(texts)), (one, texts)
        if one.kind == "held":
            assert one.took is not None
    assert not [one for one in artifacts if one.kind == "text" and one.id not in used]
    steps = [one.id for one in artifacts if one.kind == "step" and one.data["ids"]]
    spelled = {id for one in artifacts if one.kind == "text" for id in one.of}
    assert set(steps) <= spelled


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_calls(tool_parser: str) -> None:
    for text in sample_answers(tool_parser):
        for seed in range(examples(2)):
            deltas, trace = traced(text, tool_parser, None, seed)
            assert shape(deltas) == shape(untraced(text, tool_parser, None, seed))
            assert_true(trace)


@pytest.mark.parametrize("reasoning_parser", REASONING_PARSERS)
def test_thoughts(reasoning_parser: str) -> None:
    text = thought(reasoning_parser, "Größe? <b> or\n\n 3 < 4 🌤️") + "So: `<think` — it is.\n"
    for seed in range(examples(2)):
        deltas, trace = traced(text, None, reasoning_parser, seed)
        assert shape(deltas) == shape(untraced(text, None, reasoning_parser, seed))
        assert_true(trace)
