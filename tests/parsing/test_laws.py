"""The laws that every family keeps, checked on answers that its own writer makes: a new page is checked by itself.

Of the places where an answer can be cut each family meets some, the next family the next ones; all of them with
``PORTICO_EXHAUSTIVE=1``.
"""

from __future__ import annotations

import json
import random

import pytest

from portico.events import CallArguments, CallStart, Content, Finish, Reasoning
from portico.parsing import OutputParser, parse, render_calls
from portico.parsing.family import Reasoning as ReasoningFormat
from portico.parsing.folding import fold
from portico.parsing.messages import Messages
from portico.parsing.registry import program
from support.effort import examples, some
from support.streams import (
    NOTE,
    REASONING_PARSERS,
    TOOL_PARSERS,
    TOOLS,
    cut,
    cut_every,
    cuts,
    run,
    sample_answers,
    thought,
)

PLAIN = [
    "",
    "Hello.",
    "  kept  \n\n exactly\t",
    "a < b, [1, 2], {x}: `code` <b>bold</b> 🌤️ <|x|> f(a=1)\n```py\nx = [1]\n```\n",
]


def is_protocol(tool_parser: str) -> bool:
    return isinstance(program(tool_parser, None).reasoning, Messages)


def is_lines(tool_parser: str) -> bool:
    """Whether a call has no marker: a line may begin with a tool's name, and is looked over as far as it is short."""
    calls = program(tool_parser, None).calls
    return calls is not None and calls.lines


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_any_cut_gives_the_same_events(tool_parser: str) -> None:
    for text in sample_answers(tool_parser):
        whole = run([text], tool_parser)
        assert any(isinstance(event, CallStart) for event in whole)
        for pieces in cuts(text, seed=1, count=examples(4)):
            assert run(pieces, tool_parser) == whole, pieces


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_every_two_way_cut_gives_the_same_events(tool_parser: str) -> None:
    text = render_calls([{"name": "send_note", "arguments": {"text": "x <y\n", "urgent": True}}], tool_parser, TOOLS)
    whole = run([text], tool_parser)
    for place in some(range(1, len(text)), 24, TOOL_PARSERS.index(tool_parser)):
        assert run(cut(text, place), tool_parser) == whole, text[:place]


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_the_calls_are_what_was_written(tool_parser: str) -> None:
    first, both, _ = (parse(text, tool_parser, tools=TOOLS) for text in sample_answers(tool_parser))
    assert [(call.name, json.loads(call.arguments)) for call in both.tool_calls] == [("send_note", NOTE), ("ping", {})]
    assert str(NOTE["priority"]) in first.tool_calls[0].arguments, "no digit may change"
    assert (first.content, both.content, both.finish_reason) == ("", "", "tool_calls")


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_the_whole_answer_is_the_fold_of_the_stream(tool_parser: str) -> None:
    for text in sample_answers(tool_parser):
        streamed = fold(run(list(text), tool_parser))
        whole = parse(text, tool_parser, tools=TOOLS, new_id=lambda index, name: f"id-{index}")
        assert streamed == whole


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_plain_text_is_content_untouched(tool_parser: str) -> None:
    for text in PLAIN:
        for pieces in ([text], list(text)):
            found = fold(run(pieces, tool_parser))
            assert (found.content, found.reasoning, found.tool_calls) == (text, "", [])
            assert found.finish_reason == "stop"


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_every_prefix_is_legal_and_loses_nothing(tool_parser: str) -> None:
    text = sample_answers(tool_parser)[1]
    for end in some(range(len(text)), 32, TOOL_PARSERS.index(tool_parser)):
        events = run([text[:end]], tool_parser, finish="length")
        assert events == run(cut_every(text[:end], 2), tool_parser, finish="length")
        assert events[-1] == Finish("length")
        found = fold(events)
        if not found.tool_calls and text[:end].strip() not in program(tool_parser, None).special_tokens:
            assert found.content.strip() == text[:end].strip() or is_protocol(tool_parser)
        for call in found.tool_calls:
            if call.complete:
                json.loads(call.arguments)


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_a_promised_call_never_leaks_its_framing(tool_parser: str) -> None:
    """Cut anywhere, an answer that had to be a call has no text: all of it is framing, or arguments."""
    text = sample_answers(tool_parser)[1]
    for end in some(range(1, len(text)), 16, TOOL_PARSERS.index(tool_parser)):
        choice = {"type": "function", "function": {"name": "send_note"}} if end % 2 else "required"
        for pieces in ([text[:end]], cut_every(text[:end], 4)):
            found = fold(run(pieces, tool_parser, tool_choice=choice, finish="length"))
            assert (found.content, found.reasoning, found.finish_reason) == ("", "", "length"), text[:end]


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_string_arguments_stream(tool_parser: str) -> None:
    """A character of a string is held back only while it may belong to the marker that ends the string."""
    body = "The quick brown fox. " * 20
    text = render_calls([{"name": "send_note", "arguments": {"text": body}}], tool_parser, TOOLS)
    parser = OutputParser(tool_parser, tools=TOOLS)
    start = text.index(body)
    longest = max(map(len, parser.special_tokens), default=1) + 4
    if tool_parser == "mistral":
        assert "[ARGS]" in text  # only lists of older tokenizers wait, for an id behind the arguments
    if is_lines(tool_parser):
        longest = 256
    seen = ""
    for place, char in enumerate(text[: start + len(body)]):
        seen += "".join(e.json_fragment for e in parser.feed(char) if isinstance(e, CallArguments))
        if place >= start:
            shown = seen.partition(body[:1])[2] if "T" in seen else ""
            assert place - start - len(shown) <= longest


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_content_streams(tool_parser: str) -> None:
    parser = OutputParser(tool_parser, tools=TOOLS)
    body, seen = "plain words without any sign in them " * 5, 0
    for place, char in enumerate(body):
        seen += sum(len(event.text) for event in parser.feed(char) if isinstance(event, Content))
        if place > 16 and char != " ":
            slack = 512 if is_protocol(tool_parser) else len("send_note(") if is_lines(tool_parser) else 1
            assert place + 1 - seen <= slack


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_markers_do_not_show(tool_parser: str) -> None:
    markers = [marker.replace("*", "") for marker in program(tool_parser, None).special_tokens if len(marker) > 3]
    for text in sample_answers(tool_parser):
        found = parse(text, tool_parser, tools=TOOLS)
        for marker in markers:
            assert marker not in found.content
            assert all(marker not in call.arguments for call in found.tool_calls)


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_without_tools_markup_is_text(tool_parser: str) -> None:
    if is_protocol(tool_parser):
        pytest.skip("the protocol's headers are read whether or not there are tools")
    for text in sample_answers(tool_parser):
        for how in ({"tools": None}, {"tools": TOOLS, "tool_choice": "none"}):
            found = fold(run(cut_every(text, 5), tool_parser, **how))
            assert found.tool_calls == []
            assert found.content.split() == text.split()


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_an_undeclared_tool_is_surfaced(tool_parser: str) -> None:
    text = render_calls([{"name": "unheard_of", "arguments": {"a": "b"}}], tool_parser)
    calls = parse(text, tool_parser, tools=TOOLS).tool_calls
    if tool_parser == "functionary_v32" or is_lines(tool_parser):
        return  # here any first line looks like a header, or the name is all there is
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("unheard_of", {"a": "b"})]


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_finish_reasons(tool_parser: str) -> None:
    text = sample_answers(tool_parser)[0]
    named = {"type": "function", "function": {"name": "send_note"}}
    assert run([text], tool_parser)[-1] == Finish("tool_calls")
    assert run([text], tool_parser, finish="length")[-1] == Finish("length")
    assert run([text], tool_parser, finish="abort")[-1] == Finish("abort")
    assert run([text], tool_parser, tool_choice=named)[-1] == Finish("stop")
    assert run(["Hi."], tool_parser)[-1] == Finish("stop")


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_only_the_first_call_where_calls_are_not_parallel(tool_parser: str) -> None:
    both = sample_answers(tool_parser)[1]
    assert [call.name for call in fold(run([both], tool_parser, parallel=False)).tool_calls] == ["send_note"]


NOISE = ["\x00", "\x1b[0m", "\ud800", "\udfff", '"', "\\", *"{}[]()<>,:=/1 \n", "'''", "é", "null"]


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_noise_never_raises_and_never_depends_on_cuts(tool_parser: str) -> None:
    chance = random.Random(tool_parser)
    special = [marker.replace("*", "") for marker in sorted(program(tool_parser, None).special_tokens)]
    samples = sample_answers(tool_parser)
    for _ in range(12):
        text = chance.choice(samples)
        for _ in range(chance.randint(1, 3)):
            at, gone = chance.randint(0, len(text)), chance.choice([0, 0, 1, 3, 20])
            text = text[:at] + chance.choice([*special, *NOISE]) + text[at + gone :]
        whole = run([text], tool_parser)
        assert run(list(text), tool_parser) == whole, text
        assert run(cut_every(text, 3), tool_parser) == whole, text
        for call in fold(whole).tool_calls:
            call.arguments.encode()  # a lone surrogate in an argument is written as its escape


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_control_characters_and_lone_surrogates_in_arguments(tool_parser: str) -> None:
    text = sample_answers(tool_parser)[0].replace("if x", "\x01\ud83d\x7f")
    call = parse(text, tool_parser, tools=TOOLS).tool_calls[0]
    assert "\x01\ud83d\x7f" in json.loads(call.arguments)["text"]
    call.arguments.encode()


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_outcomes_are_counted(tool_parser: str) -> None:
    text = sample_answers(tool_parser)[1]
    parser = OutputParser(tool_parser, tools=TOOLS)
    parser.feed(text)
    parser.close()
    assert dict(parser.outcomes) == {"call": 2, "false_alarm": 0, "undecodable": 0, "truncated": 0}
    parser = OutputParser(tool_parser, tools=TOOLS)
    parser.feed(text[: text.index("Gr") + 3])
    parser.close("length")
    assert parser.outcomes["truncated"] == 1


# -- reasoning --------------------------------------------------------------------------------------------------------

MARKED = [name for name in REASONING_PARSERS if thought(name, "x")]


@pytest.mark.parametrize("reasoning_parser", MARKED)
def test_a_thought_is_reasoning(reasoning_parser: str) -> None:
    text = thought(reasoning_parser, "First < this,\n then that.") + "The answer."
    for pieces in ([text], *cuts(text, seed=2, count=10)):
        found = fold(run(pieces, None, reasoning_parser))
        assert (found.reasoning, found.content) == ("First < this,\n then that.", "The answer.")


@pytest.mark.parametrize("reasoning_parser", MARKED)
def test_a_thought_that_the_prompt_opened(reasoning_parser: str) -> None:
    described = program(None, reasoning_parser).reasoning
    assert isinstance(described, ReasoningFormat)
    opener = described.openers[0].replace("*", "")
    text = thought(reasoning_parser, "hm").removeprefix(opener).lstrip() + "Yes."
    history = thought(reasoning_parser, "old") + "old answer<|im_end|>\n<|im_start|>assistant\n"
    for answer in (text, f"{opener}{text}"):  # some models open the thought again
        found = fold(run(list(answer), None, reasoning_parser, prompt_tail=f"{history}{opener}\n"))
        assert (found.reasoning, found.content) == ("hm", "Yes.")
    closed = fold(run(["Yes."], None, reasoning_parser, prompt_tail=history))
    assert (closed.reasoning, closed.content) == ("", "Yes.")
    never = fold(run(["on and on"], None, reasoning_parser, prompt_tail=opener, finish="length"))
    assert (never.reasoning, never.content, never.finish_reason) == ("on and on", "", "length")


@pytest.mark.parametrize("reasoning_parser", MARKED)
def test_an_empty_thought_leaves_no_trace(reasoning_parser: str) -> None:
    found = run([thought(reasoning_parser, ""), "Yes."], None, reasoning_parser)
    assert found == [Content("Yes."), Finish("stop")]


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_any_pair_reads_a_thought_and_then_a_call(tool_parser: str) -> None:
    if is_protocol(tool_parser):
        pytest.skip("a protocol has its own thoughts")
    turn = TOOL_PARSERS.index(tool_parser)
    for reasoning_parser in some(["qwen3", "mistral", "cohere_command3", "gemma4"], 1, turn):
        text = thought(reasoning_parser, "plan") + sample_answers(tool_parser)[0]
        whole = run([text], tool_parser, reasoning_parser)
        assert run(list(text), tool_parser, reasoning_parser) == whole, reasoning_parser
        assert whole[0] == Reasoning("plan"), reasoning_parser
        assert [call.name for call in fold(whole).tool_calls] == ["send_note"], reasoning_parser


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_a_call_ends_an_open_thought(tool_parser: str) -> None:
    if is_protocol(tool_parser):
        pytest.skip("a protocol has its own thoughts")
    described = program(tool_parser, None).calls
    text = "<think>\nI should ask.\n" + sample_answers(tool_parser)[0]
    found = fold(run(cut_every(text, 4), tool_parser, "qwen3"))
    if described is not None and described.in_thought:
        assert found.reasoning == "I should ask."
        assert [call.name for call in found.tool_calls] == ["send_note"]
    else:
        assert found.tool_calls == []  # this family thinks aloud about calls that it does not make


def test_text_after_calls_is_kept_and_a_second_thought_too() -> None:
    call = render_calls([{"name": "ping", "arguments": {}}], "hermes", TOOLS)
    text = f"<think>a</think>One.\n{call}\n<think>b</think>Two."
    assert run(list(text), "hermes", "qwen3") == [
        Reasoning("a"),
        Content("One."),
        CallStart(0, "id-0", "ping"),
        CallArguments(0, "{}"),
        *run([call], "hermes")[2:3],
        Reasoning("b"),
        Content("\n\nTwo."),
        Finish("tool_calls"),
    ]


def test_talking_about_a_marker_is_no_thought() -> None:
    text = "Put it into `<think>` tags. </think> closes them."
    assert fold(run(list(text), None, "qwen3")).content == text


def test_random_answers_of_all_markers() -> None:
    """Answers made of nothing but markers and crumbs, for every family: no exception, no dependence on cuts."""
    chance = random.Random(7)
    for tool_parser in TOOL_PARSERS:
        special = sorted(marker.replace("*", "") for marker in program(tool_parser, None).special_tokens)
        crumbs = [
            *special,
            *special,
            '{"name": "ping", "arguments": ',
            "{}",
            "}",
            "ping",
            "\n",
            " ",
            "x",
            '"',
            "[",
            "]",
            "(",
            ")",
            ",",
        ]
        for _ in range(6):
            text = "".join(chance.choice(crumbs) for _ in range(14))
            whole = run([text], tool_parser, "qwen3")
            assert run(list(text), tool_parser, "qwen3") == whole, (tool_parser, text)
