"""Law 7: ``parse(write(calls)) == calls``, for every family and whatever the arguments are.

A format whose values end at a marker has no way to write a value that holds that marker; its writer must say so instead
of writing something that reads back differently. A format with escapes must be able to write everything.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portico.parsing import Unwritable, parse, render_calls
from portico.parsing.arguments import Json
from portico.parsing.bodies import Headed, JsonObject, SingleKey
from portico.parsing.calls import Calls
from portico.parsing.either import Either
from portico.parsing.keywords import Keyword
from portico.parsing.registry import program
from support.effort import examples
from support.streams import TOOL_PARSERS

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@cache
def values(markers: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """JSON values whose strings hold quotes, line ends and the family's own markers."""
    hard = st.lists(
        st.one_of(TEXT, st.sampled_from([*markers, '"', "'", "\\", "\n", "{", "}", "]", "</", "null", "7"])), max_size=4
    )
    strings = hard.map("".join)
    scalars = st.one_of(
        strings, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)
    )
    lists = lambda inner: st.one_of(st.lists(strings, max_size=3), st.lists(inner, max_size=1))  # noqa: E731
    return st.recursive(
        scalars, lambda inner: st.one_of(lists(inner), st.dictionaries(NAMES, inner, max_size=3)), max_leaves=6
    )


def schema_of(value: Any) -> dict[str, Any]:
    """The narrowest schema of a value, so that what the wire leaves open is decided."""
    match value:
        case bool():
            return {"type": "boolean"}
        case None:
            return {"type": "null"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array", "items": schema_of(value[0]) if value else {}}
        case _:
            return {"type": "object", "properties": {key: schema_of(inner) for key, inner in value.items()}}


def markers_of(tool_parser: str) -> tuple[str, ...]:
    return tuple(sorted(marker.replace("*>", ">") for marker in program(tool_parser, None).special_tokens))


def escapes(tool_parser: str) -> bool:
    """Whether strings of this format can hold anything."""
    shape = program(tool_parser, None).written
    while isinstance(shape, Either):
        shape = shape.shapes[-1]
    assert isinstance(shape, Calls)
    body = shape.body
    if isinstance(body, Headed):
        codec = body.arguments
        return isinstance(codec, Json) or (isinstance(codec, Keyword) and codec.dialect.escapes)
    return isinstance(body, JsonObject | SingleKey)


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
@settings(max_examples=examples(8), suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_calls_read_back_as_they_were_written(tool_parser: str, data: st.DataObject) -> None:
    value = values(markers_of(tool_parser))
    calls = data.draw(
        st.lists(
            st.tuples(NAMES, st.dictionaries(NAMES, value, max_size=3)),
            min_size=1,
            max_size=2,
            unique_by=lambda c: c[0],
        )
    )
    tools = [{"name": name, "parameters": schema_of(arguments)} for name, arguments in calls]
    try:
        text = render_calls([{"name": n, "arguments": a} for n, a in calls], tool_parser, tools)
    except Unwritable:
        assert not escapes(tool_parser), "a format with escapes can write everything"
        return
    found = parse(text, tool_parser, tools=tools)
    assert [(call.name, json.loads(call.arguments)) for call in found.tool_calls] == calls
    assert found.content == ""
    assert all(call.complete for call in found.tool_calls)


KINDS: dict[str, Any] = {
    "none": None, "yes": True, "no": False, "zero": 0, "less": -12, "large": 2**60, "part": 0.5, "small": 1.5e-7,
    "words": ["a", ""], "numbers": [1, 2.5], "rows": [[1], [2, 3]], "points": [{"x": 1}, {"x": 2}],
    "deep": {"in": {"it": ["a"], "n": 0}}, "nothing": {}, "inside": {"nothing": {}, "list": []}, "list": [],
}  # fmt: skip


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_every_kind_of_value_reads_back(tool_parser: str) -> None:
    calls = [("every", KINDS), *((f"f_{key}", {"v": value}) for key, value in KINDS.items())]
    tools = [{"name": name, "parameters": schema_of(arguments)} for name, arguments in calls]
    text = render_calls([{"name": name, "arguments": arguments} for name, arguments in calls], tool_parser, tools)
    found = parse(text, tool_parser, tools=tools)
    assert [(call.name, json.loads(call.arguments)) for call in found.tool_calls] == calls


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_ordinary_text_can_always_be_written(tool_parser: str) -> None:
    texts = [
        'say "hi"',
        "two\nlines\n",
        "a < b > c",
        "{'x': [1, 2]}",
        "</div>",
        "0012",
        "null",
        " ends in space ",
        "日本語 🦊",
        "",
    ]
    tools = [{"name": "say", "parameters": schema_of({"text": "", "n": 1})}]
    for text in texts:
        written = render_calls([{"name": "say", "arguments": {"text": text, "n": 1}}], tool_parser, tools)
        assert json.loads(parse(written, tool_parser, tools=tools).tool_calls[0].arguments) == {"text": text, "n": 1}


def test_a_writer_refuses_what_would_read_back_differently() -> None:
    tools = [{"name": "say", "parameters": schema_of({"text": ""})}]
    with pytest.raises(Unwritable, match="say"):
        render_calls([{"name": "say", "arguments": {"text": "a\n</parameter>\n</function>"}}], "qwen3_coder", tools)
