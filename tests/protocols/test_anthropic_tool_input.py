"""Whatever a model writes as arguments, Anthropic's clients read one JSON object, and the same one from the body."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jiter import from_json

from portico.protocols.anthropic.tool_input import INVALID, ToolInput
from support.anthropic import JSON, TEXTS, arguments, cut_up
from support.effort import examples
from support.work import growth


def play(pieces: list[str], complete: bool = True) -> tuple[list[str], str]:
    """What is sent, piece by piece, and the whole input."""
    tool_input = ToolInput()
    sent = [tool_input.feed(piece) for piece in pieces]
    sent.append(tool_input.close(complete))
    return sent, tool_input.whole


@given(value=st.dictionaries(TEXTS, JSON), ascii=st.booleans(), indent=st.sampled_from([None, 0, 2]), data=st.data())
def test_an_object_goes_through_unchanged(value: object, ascii: bool, indent: int | None, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    sent, whole = play(data.draw(st.composite(cut_up)(text)))
    assert "".join(sent) == whole == text


@settings(max_examples=examples(80))
@given(text=arguments(), data=st.data())
def test_complete_arguments_become_an_object(text: str, data: st.DataObject) -> None:
    sent, whole = play(data.draw(st.composite(cut_up)(text)))
    assert isinstance(json.loads(whole), dict)
    assert "".join(sent) in (whole, "")
    assert json.loads(whole) == {} or "".join(sent) == whole


@settings(max_examples=examples(80))
@given(text=arguments(), complete=st.booleans(), data=st.data())
def test_clients_can_read_along(text: str, complete: bool, data: st.DataObject) -> None:
    """At every moment the SDK's incremental parser has an object, and at the end that of the body."""
    sent, whole = play(data.draw(st.composite(cut_up)(text)), complete)
    so_far = ""
    for piece in sent:
        so_far += piece
        if so_far.strip():
            assert isinstance(from_json(so_far.encode(), partial_mode=True), dict)
    read = from_json(so_far.encode(), partial_mode=True) if so_far.strip() else {}
    assert read == from_json(whole.encode())


@given(text=arguments(), complete=st.booleans(), data=st.data())
def test_cuts_do_not_matter(text: str, complete: bool, data: st.DataObject) -> None:
    sent, whole = play(data.draw(st.composite(cut_up)(text)), complete)
    at_once, same = play([text], complete)
    assert ("".join(sent), whole) == ("".join(at_once), same)


def test_strings_stream_and_nothing_else_runs_ahead() -> None:
    tool_input = ToolInput()
    sent = [tool_input.feed(char) for char in '{"k": "ab", "n": 12, "l": [true]}']
    assert [piece for piece in sent if piece] == ["{", '"k": "', "a", "b", '"', ', "n": ', '12, "l": [', "true]"]
    assert tool_input.close() == "}"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"a": 1,}', {"a": 1}),
        ('{"a": [1, 2, ], }', {"a": [1, 2]}),
        (r'{"r": "\d+\."}', {"r": r"\d+\."}),
        (r'{"r": "\ud83d, \udc00"}', {"r": "\ufffd, \ufffd"}),
        (r'{"r": "\ud83d\ude80"}', {"r": "🚀"}),
        ('{"r": "a\nb"}', {"r": "a\nb"}),
        ("[1, 2]", {INVALID: "[1, 2]"}),
        ('"text"', {INVALID: '"text"'}),
        ("hello", {INVALID: "hello"}),
        ('{"a": True}', {INVALID: '"a": True}'}),
        ('{"a": 1} x', {"a": 1, INVALID: " x"}),
        ('{"c": "print("hi")"}', {"c": "print(", INVALID: 'hi")"}'}),
        ('{"a": {"b": [1 2]}}', {"a": {"b": [1]}, INVALID: " 2]}}"}),
        ('{"a": "x', {"a": "x", INVALID: ""}),
        ('{"a": 12', {INVALID: '"a": 12'}),
        ('{"a": ' + "[" * 200, {"a": json.loads("[" * 99 + "]" * 99), INVALID: "[" * 101}),
    ],
)
def test_what_is_no_object_is_told(text: str, whole: object) -> None:
    assert json.loads(play([text])[1]) == whole
    assert json.loads(play(list(text))[1]) == whole


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", {}),
        ('{"path": "/tmp/x', {}),
        ('{"path": "/tmp/x", "n": 12', {"path": "/tmp/x"}),
        ('{"path": "/tmp/x", "n": 12, "m', {"path": "/tmp/x"}),
        ('{"path": "/tmp/x", "n": 12, "l": [{"k": "v"}, "w', {"path": "/tmp/x", "n": 12, "l": [{"k": "v"}]}),
        ('{"path": "/tmp/x"}', {"path": "/tmp/x"}),
    ],
)
def test_what_was_cut_off_is_not_made_to_look_whole(text: str, whole: object) -> None:
    sent, found = play([text], complete=False)
    assert json.loads(found) == whole
    assert text.startswith("".join(sent))


def test_long_strings_take_linear_time() -> None:
    def work(size: int) -> None:
        play(['{"content": "', *["word \\n\\u00e9 "] * size, '"}'])

    assert growth(work, 10_000, 4) < 8
