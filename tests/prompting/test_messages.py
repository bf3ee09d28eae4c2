"""Client messages: the template sees the one form it takes, or the client hears which field is wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.errors import BadRequestError, NotSupportedError
from portico.prompting import ChatTemplate, JinjaRenderer, MediaPart, RenderRequest, normalise
from portico.prompting.capabilities import Capabilities
from support.effort import examples
from support.templates import MODERN, OLD, PARTS, STRICT

EVERY_ROLE = frozenset({"user", "system", "assistant", "tool"})
TYPED = Capabilities(parts=EVERY_ROLE)


def one(message: dict[str, Any], takes: Capabilities | None = None, **how: Any) -> dict[str, Any]:
    return normalise([message], takes, **how).messages[0]


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}], "a\nb"),
        ([{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}, "bare"], "a\nno\nbare"),
        ([{"text": "no type"}], "no type"),
        ({"type": "text", "text": "one part alone"}, "one part alone"),
        ([{"type": "tool_reference", "tool_name": "f"}], "f"),
        ([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "a"}], "a"),
    ],
)
def test_content_becomes_one_text(content: Any, text: str) -> None:
    assert one({"role": "user", "content": content})["content"] == text


def test_parts_stay_parts_where_they_are_taken() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b", "extra": 1}]
    kept = one({"role": "user", "content": parts}, TYPED)["content"]
    assert kept == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert one({"role": "user", "content": "text"}, TYPED)["content"] == "text"
    only_parts = Capabilities(strings=False, parts=EVERY_ROLE)
    assert one({"role": "user", "content": "text"}, only_parts)["content"] == [{"type": "text", "text": "text"}]
    assert one({"role": "assistant"}, only_parts)["content"] == []


@pytest.mark.parametrize("role", ["user", "system", "developer"])
@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({}, "messages[0].content"),
        ({"content": None}, "messages[0].content"),
        ({"content": []}, "messages[0].content"),
        ({"content": 5}, "messages[0].content"),
        ({"content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"content": ["a", {"type": "input_text", "text": None}]}, "messages[0].content[1].text"),
        ({"content": [{"type": "refusal"}]}, "messages[0].content[0].refusal"),
    ],
)
def test_who_says_nothing_is_asked_to(role: str, message: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        one({"role": role, **message})
    assert caught.value.param == param


def test_a_message_without_content_has_some() -> None:
    assert one({"role": "assistant"}) == {"role": "assistant", "content": ""}
    assert one({"role": "assistant", "content": None, "refusal": "I will not."})["content"] == "I will not."


def test_unknown_keys_are_left_alone_and_nulls_are_absent() -> None:
    read = one({"role": "user", "content": "x", "task": "title", "name": "Ada", "audio": None, "weight": 0})
    assert read == {"role": "user", "content": "x", "task": "title", "name": "Ada", "weight": 0}


# -- reasoning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking"])
def test_earlier_reasoning_has_every_name(name: str) -> None:
    read = one({"role": "assistant", "content": "a", name: "because"})
    assert read["reasoning"] == read["reasoning_content"] == read["thinking"] == "because"


def test_thoughts_among_the_parts() -> None:
    content = [
        {"type": "thinking", "thinking": "one", "signature": "s"},
        {"type": "reasoning", "reasoning": [{"type": "text", "text": "two"}]},
        {"type": "text", "text": "answer"},
    ]
    read = one({"role": "assistant", "content": content})
    assert (read["reasoning"], read["content"]) == ("one\ntwo", "answer")
    typed = one({"role": "assistant", "content": content}, Capabilities(thinking_parts=True))
    assert typed["content"] == [{"type": "thinking", "thinking": "one\ntwo"}, {"type": "text", "text": "answer"}]
    assert "reasoning" not in typed


# -- tool calls -------------------------------------------------------------------------------------------------------


def call(arguments: Any = '{"a": 1}', call_id: str = "call_1", name: str = "f") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def arguments_of(arguments: Any, takes: Capabilities | None = None) -> Any:
    message = {"role": "assistant", "content": None, "tool_calls": [call(arguments)]}
    return one(message, takes)["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize(
    ("given_arguments", "as_object", "as_object_only", "as_text"),
    [
        ('{"a": 1}', {"a": 1}, {"a": 1}, '{"a": 1}'),
        ({"a": "ü"}, {"a": "ü"}, {"a": "ü"}, '{"a": "ü"}'),
        ("", {}, {}, "{}"),
        (None, {}, {}, "{}"),
        ("not json", "not json", {"arguments": "not json"}, "not json"),
        ("[1]", "[1]", {"arguments": "[1]"}, "[1]"),
        ([1], "[1]", {"arguments": [1]}, "[1]"),
        ("[" * 100_000, "[" * 100_000, {"arguments": "[" * 100_000}, "[" * 100_000),
    ],
)
def test_arguments_in_the_form_that_is_taken(
    given_arguments: Any, as_object: Any, as_object_only: Any, as_text: Any
) -> None:
    assert arguments_of(given_arguments) == as_object
    assert arguments_of(given_arguments, Capabilities(text_arguments=False)) == as_object_only
    assert arguments_of(given_arguments, Capabilities(object_arguments=False)) == as_text


def test_older_and_other_kinds_of_calls() -> None:
    legacy = one({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}})
    assert legacy["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    assert "function_call" not in legacy
    custom = {"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
    read = one({"role": "assistant", "tool_calls": [custom]})["tool_calls"][0]
    assert read == {"id": "c", "type": "function", "function": {"name": "sh", "arguments": {"input": "ls"}}}
    assert "tool_calls" not in one({"role": "assistant", "content": "x", "tool_calls": []})
    assert normalise([{"role": "function", "name": "f", "content": "4"}]).messages[0]["role"] == "tool"


def test_no_content_beside_calls() -> None:
    message = {"role": "assistant", "content": "", "tool_calls": [call()]}
    assert one(message)["content"] == ""
    assert one(message, Capabilities(null_content=True))["content"] is None
    assert one({**message, "content": "text"}, Capabilities(null_content=True))["content"] == "text"


def test_a_result_knows_the_name_of_its_call() -> None:
    messages = [
        {"role": "assistant", "tool_calls": [call(call_id="1", name="f"), call(call_id="2", name="g")]},
        {
            "role": "tool",
            "tool_call_id": "2",
            "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "!"}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "one", "name": "own"},
        {"role": "tool", "tool_call_id": "3", "content": "three"},
    ]
    results = normalise(messages).messages[1:]
    assert [result.get("name") for result in results] == ["g", "own", None]
    assert results[0]["content"] == "two\n!"


def test_parallel_calls_are_dealt_out_where_only_one_is_taken() -> None:
    messages = [
        {
            "role": "assistant",
            "content": "both",
            "reasoning": "r",
            "tool_calls": [call(call_id="1"), call(call_id="2")],
        },
        {"role": "tool", "tool_call_id": "2", "content": "two"},
        {"role": "tool", "tool_call_id": "1", "content": "one"},
        {"role": "user", "content": "ok"},
    ]
    dealt = normalise(messages, Capabilities(parallel_calls=False)).messages
    assert [m["role"] for m in dealt] == ["assistant", "tool", "assistant", "tool", "user"]
    assert [m["tool_calls"][0]["id"] for m in (dealt[0], dealt[2])] == ["1", "2"]
    assert [m["content"] for m in dealt] == ["both", "one", "", "two", "ok"]
    assert "reasoning" in dealt[0]
    assert "reasoning" not in dealt[2]


def test_short_call_ids_are_the_same_on_both_sides() -> None:
    messages = [
        {"role": "assistant", "tool_calls": [call(call_id="call_0123456789"), call(call_id="abcdefghi")]},
        {"role": "tool", "tool_call_id": "call_0123456789", "content": "x"},
    ]
    read = normalise(messages, Capabilities(short_call_ids=True)).messages
    ids = [c["id"] for c in read[0]["tool_calls"]]
    assert ids[1] == "abcdefghi"
    assert len(ids[0]) == 9
    assert ids[0].isalnum()
    assert read[1]["tool_call_id"] == ids[0]


# -- system messages --------------------------------------------------------------------------------------------------

SYSTEMS = [
    {"role": "system", "content": "A"},
    {"role": "developer", "content": [{"type": "text", "text": "B"}]},
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "X"},
    {"role": "system", "content": "C"},
    {"role": "user", "content": "R"},
]


def roles_and_texts(takes: Capabilities) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in normalise(SYSTEMS, takes).messages]


def test_system_messages_find_a_place() -> None:
    tail = [("user", "Q"), ("assistant", "X"), ("system", "C"), ("user", "R")]
    assert roles_and_texts(Capabilities()) == [("system", "A"), ("system", "B"), *tail]
    assert roles_and_texts(Capabilities(developer=True))[1] == ("developer", "B")
    merged = [("system", "A\n\nB\n\nC"), ("user", "Q"), ("assistant", "X"), ("user", "R")]
    assert roles_and_texts(Capabilities(several_systems=False, late_systems=False)) == merged
    assert roles_and_texts(Capabilities(late_systems=False)) == merged
    folded = [("user", "A\n\nB\n\nC\n\nQ"), ("assistant", "X"), ("user", "R")]
    assert roles_and_texts(Capabilities(system=False)) == folded


def test_system_text_alone_or_before_parts() -> None:
    assert one({"role": "system", "content": "A"}, Capabilities(system=False)) == {"role": "user", "content": "A"}
    messages = [{"role": "system", "content": "A"}, {"role": "user", "content": [{"type": "text", "text": "Q"}]}]
    content = normalise(messages, Capabilities(system=False, parts=EVERY_ROLE)).messages[0]["content"]
    assert "".join(part["text"] for part in content) == "A\n\nQ"


def test_neighbours_are_merged_where_roles_must_alternate() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "tool_calls": [call()]},
        {"role": "assistant", "tool_calls": [call()]},
    ]
    read = normalise(messages, Capabilities(same_role_twice=False)).messages
    assert [m["role"] for m in read] == ["user", "assistant", "assistant"]
    assert read[0]["content"] == "a\n\nb"
    typed = normalise(messages, Capabilities(same_role_twice=False, parts=EVERY_ROLE)).messages
    assert [part["text"] for part in typed[0]["content"]] == ["a", "\n\n", "b"]


# -- media ------------------------------------------------------------------------------------------------------------

MEDIA = [
    {"type": "text", "text": "look"},
    {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}, "uuid": "u1"},
    {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
    {"video_url": {"url": "https://example.org/v.mp4"}},
    {"type": "image"},
]


def test_old_media_become_a_note() -> None:
    """Only the last message of a user refuses what the model cannot see; nobody can take back the rest."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    asked = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}
    answer = {"role": "assistant", "content": "A cat."}
    result = {"role": "tool", "tool_call_id": "c", "content": [image]}
    found = normalise([asked, answer, {"role": "user", "content": "Sure?"}, result])
    assert found.messages[0]["content"] == "What is it?\n[left out: this model cannot see images]"
    assert [words.split(" (")[0] for words in found.left_out] == ["messages[0].content[1]", "messages[3].content[0]"]
    assert found.media == []
    for messages in ([asked], [answer, asked, result], [answer, asked, answer]):
        with pytest.raises(NotSupportedError) as caught:
            normalise(messages)
        assert caught.value.param == f"messages[{messages.index(asked)}].content[1].type"
    seeing = normalise([asked, answer, asked], modalities=["image"])
    assert (len(seeing.media), seeing.left_out) == (2, [])


@pytest.mark.parametrize(
    ("details", "thought"),
    [
        ([{"type": "reasoning.text", "text": "a", "index": 0}, {"type": "reasoning.text", "text": "b"}], "ab"),
        ([{"type": "reasoning.summary", "summary": "s"}, {"type": "reasoning.encrypted", "data": "x"}], "s"),
        ([{"type": "reasoning.encrypted", "data": "x"}], None),
        (["text", None, 5], None),
        ("text", None),
    ],
)
def test_thoughts_in_detail(details: object, thought: str | None) -> None:
    message = one({"role": "assistant", "content": "b", "reasoning_details": details})
    assert message.get("reasoning") == thought
    assert "reasoning_details" not in message


def test_media_are_collected_and_leave_placeholders() -> None:
    everything = {"image", "audio", "video"}
    conversation = normalise([{"role": "user", "content": MEDIA}], TYPED, modalities=everything)
    kinds = [part["type"] for part in conversation.messages[0]["content"]]
    assert kinds == ["text", "image", "image", "audio", "video", "image"]
    assert conversation.media == [
        MediaPart("image", "https://example.org/a.png", "messages[0].content[1].image_url", "low", "u1"),
        MediaPart("image", "data:image/png;base64,AAAA", "messages[0].content[2].input_image"),
        MediaPart("audio", "data:audio/mp3;base64,AAAA", "messages[0].content[3].input_audio"),
        MediaPart("video", "https://example.org/v.mp4", "messages[0].content[4].video_url"),
        MediaPart("image", None, "messages[0].content[5].image"),
    ]
    text = normalise([{"role": "user", "content": MEDIA}], modalities=everything).messages[0]["content"]
    assert text == "<image>\n<image>\n<audio>\n<video>\n<image>\nlook"


@pytest.mark.parametrize(
    ("part", "verb"), [(MEDIA[1], "see images"), (MEDIA[3], "hear audio"), (MEDIA[4], "watch video")]
)
def test_an_engine_that_cannot_perceive_says_so(part: dict[str, Any], verb: str) -> None:
    with pytest.raises(NotSupportedError, match=f"cannot {verb}") as refused:
        normalise([{"role": "user", "content": "x"}, {"role": "user", "content": ["y", part]}])
    assert refused.value.status == 400
    assert refused.value.param == "messages[1].content[1].type"


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ("text", "messages"),
        ([], "messages"),
        ({"role": "user"}, "messages"),
        (["text"], "messages[0]"),
        ([{}], "messages[0].role"),
        ([{"role": 1, "content": "x"}], "messages[0].role"),
        ([{"role": "", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": [5]}], "messages[1].content[0]"),
        ([{"role": "user", "content": ["a", {"type": "hologram"}]}], "messages[0].content[1].type"),
        ([{"role": "user", "content": [{"type": 7}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text", "text": 7}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "file", "file": {}}]}], "messages[0].content[0].type"),
        ([{"role": "assistant", "tool_calls": "x"}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": ["x"]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": [{"id": "1"}]}], "messages[0].tool_calls[0].function"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "messages[0].tool_calls[0].function.name"),
        ([{"role": "assistant", "function_call": "f"}], "messages[0].function_call.function"),
    ],
)  # fmt: skip
def test_every_refusal_names_the_field(messages: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        normalise(messages)
    assert refused.value.param == param


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def test_deep_nesting_is_refused() -> None:
    for message in (
        {"role": "user", "content": [{"type": "thinking", "thinking": nested(100_000)}]},
        {"role": "assistant", "reasoning": nested(100_000)},
        {"role": "assistant", "tool_calls": [call({"a": nested(100_000)})]},
    ):
        with pytest.raises(BadRequestError, match="nested too deeply"):
            normalise([message], Capabilities(object_arguments=False))


# -- laws -------------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
types = st.sampled_from(["text", "image_url", "input_audio", "thinking", "refusal", "image", "tool_reference", "odd"])
parts = st.fixed_dictionaries({}, optional={"type": types | json_values, "text": json_values, "image_url": json_values,
                                            "input_audio": json_values, "thinking": json_values})  # fmt: skip
functions = st.fixed_dictionaries({}, optional={"name": json_values | st.just("f"), "arguments": json_values})
calls = st.fixed_dictionaries(
    {}, optional={"id": json_values, "type": json_values, "function": functions | json_values}
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "odd"]) | json_values},
    optional={
        "content": st.text(max_size=12) | st.lists(parts | json_values, max_size=4) | json_values,
        "tool_calls": st.lists(calls, max_size=3) | json_values,
        "function_call": functions | json_values,
        "tool_call_id": json_values,
        "name": json_values,
        "reasoning": json_values,
        "reasoning_content": json_values,
        "extra": json_values,
    },
)
capabilities = st.builds(
    Capabilities,
    **{name: st.booleans() for name, value in vars(Capabilities()).items() if isinstance(value, bool)},
    parts=st.sets(st.sampled_from(sorted(EVERY_ROLE))).map(frozenset),
)


@given(st.lists(messages | json_values, max_size=5) | json_values, capabilities, st.booleans())
@settings(max_examples=examples(120))
def test_any_input_is_read_or_refused(given_messages: Any, takes: Capabilities, sees: bool) -> None:
    """Nothing but ``BadRequestError`` comes out, the input is left as it was, the output has the promised form."""
    before = copy.deepcopy(given_messages)
    try:
        conversation = normalise(given_messages, takes, modalities={"image", "audio"} if sees else ())
    except BadRequestError as refused:
        assert refused.param is not None  # noqa: PT017
        assert len(refused.message.encode()) < 2048  # noqa: PT017
        return
    finally:
        assert given_messages == before
    assert conversation.messages
    for message in conversation.messages:
        assert isinstance(message["role"], str)
        content = message["content"]
        if isinstance(content, list):
            assert all(isinstance(part["type"], str) for part in content)
        else:
            assert isinstance(content, str) or (content is None and takes.null_content)
        for made in message.get("tool_calls", ()):
            assert isinstance(made["function"]["arguments"], dict | str)
            if not takes.object_arguments:
                assert isinstance(made["function"]["arguments"], str)
        if not takes.parallel_calls:
            assert len(message.get("tool_calls", ())) < 2
    json.dumps(conversation.messages)


renderers = [
    JinjaRenderer(ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}))
    for source in (MODERN, STRICT, OLD, PARTS)
]


@given(st.lists(messages, min_size=1, max_size=5), st.sampled_from(renderers), st.booleans(), json_values, json_values)
@settings(max_examples=examples(100))
def test_any_conversation_is_rendered_or_refused(
    given_messages: Any, renderer: JinjaRenderer, continued: bool, tools: Any, kwargs: Any
) -> None:
    request = RenderRequest(messages=given_messages, tools=tools, kwargs=kwargs, continue_final_message=continued)
    try:
        rendered = renderer.render(request)
    except BadRequestError as refused:
        assert len(refused.message.encode()) < 2048  # noqa: PT017
        return
    assert rendered.text.endswith(rendered.tail)
