"""A generation gives the same answer however the engine cuts it into steps, counts what was made, and stops where it
should."""

from __future__ import annotations

from dataclasses import fields
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.events import (
    CallArguments,
    CallStart,
    Content,
    EngineOutput,
    EngineRequest,
    Reasoning,
    SamplingParams,
    TokenLogprob,
)
from portico.generation import Delta, Generation, GenerationSpec, TokenGeneration
from portico.generation.choice import _merge
from portico.generation.watch import watched
from support.effort import examples
from support.generation import tiny_tokenizer

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def make(**rules: Any) -> Generation:
    sampling = SamplingParams(**{"max_tokens": 1000, **rules.pop("sampling", {})})
    spec = GenerationSpec(request_id="r", prompt_ids=[1, 2, 3], sampling=sampling, **rules)
    return Generation(spec, tiny_tokenizer())


def outputs(text: str, steps: list[int], finish: str = "stop", logprobs: bool = False) -> list[EngineOutput]:
    """``text`` as engine outputs of the given sizes (the last size repeats), then the end."""
    ids = tiny_tokenizer().encode(text)
    found, at = [], 0
    while at < len(ids):
        size = steps.pop(0) if len(steps) > 1 else steps[0]
        piece = ids[at : at + size]
        entries = [TokenLogprob(token, -1.0) for token in piece] if logprobs else None
        found.append(EngineOutput("r-0", piece, entries))
        at += size
    found.append(EngineOutput("r-0", (), [] if logprobs else None, finish_reason=finish))  # type: ignore[arg-type]
    return found


def run(generation: Generation, given: list[EngineOutput], *, packs: bool = False) -> list[Delta]:
    """What the first choice makes of ``given``; with ``packs`` its token ids are packed after every step."""
    deltas = []
    (choice, *_) = generation.choices
    for output in given:
        if generation.finished:
            break
        delta = choice.feed(output)
        if delta is not None:
            deltas.append(delta)
        if packs:
            assert choice.pack() == sum(len(delta.token_ids) for delta in deltas), "what was told, and no more"
    return deltas


def told(deltas: list[Delta]) -> tuple[str, str, str, str, Any]:
    """Reasoning, content, arguments, finish reason and stop reason of an answer."""
    events = [event for delta in deltas for event in delta.events]
    return (
        "".join(e.text for e in events if isinstance(e, Reasoning)),
        "".join(e.text for e in events if isinstance(e, Content)),
        "".join(e.json_fragment for e in events if isinstance(e, CallArguments)),
        deltas[-1].finish.reason if deltas[-1].finish else "",
        deltas[-1].stop_reason,
    )


ANSWERS = [
    "Plain text 🚀 with é and 日本語.",
    "<think>\nHm, END of thought?\n</think>\n\nThe answer. END And more.",
    '<think>\nLet me call.\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"q": "END 🚀"}}\n</tool_call>',
    'Before EN <tool_call>\n{"name": "f", "arguments": {}}\n</tool_call> after END.',
]


@settings(max_examples=examples(60))
@given(
    text=st.sampled_from(ANSWERS),
    steps=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    stop=st.sampled_from([(), ("END",), ("EN", "END"), ("zzz",), ("🚀",)]),
    include=st.booleans(),
    finish=st.sampled_from(["stop", "length"]),
)
def test_any_cut_into_steps_gives_the_same_answer(
    text: str, steps: list[int], stop: tuple[str, ...], include: bool, finish: str
) -> None:
    rules: dict[str, Any] = {
        "tool_parser": "hermes",
        "reasoning_parser": "qwen3",
        "tools": TOOLS,
        "stop": stop,
        "include_stop": include,
    }
    singly, cut = make(**rules), make(**rules)
    one = run(singly, outputs(text, [1], finish))
    other = run(cut, outputs(text, list(steps), finish), packs=True)
    assert told(one) == told(other)
    assert singly.choices[0].token_ids == cut.choices[0].token_ids == [i for delta in other for i in delta.token_ids]
    assert singly.usage.completion_tokens == cut.usage.completion_tokens
    assert singly.usage.reasoning_tokens == cut.usage.reasoning_tokens
    assert singly.finished
    assert cut.finished
    if not stop:
        assert [i for d in other for i in d.token_ids] == tiny_tokenizer().encode(text)


def test_stop_strings_watch_content_alone() -> None:
    deltas = run(make(reasoning_parser="qwen3", stop=("END",)), outputs(ANSWERS[1], [3]))
    assert told(deltas) == ("Hm, END of thought?", "The answer. ", "", "stop", "END")
    deltas = run(make(tool_parser="hermes", tools=TOOLS, stop=("END",)), outputs(ANSWERS[2], [5]))
    assert "END 🚀" in told(deltas)[2]


@pytest.mark.parametrize(("include", "shown"), [(False, "a "), (True, "a END")])
def test_a_stop_string_is_shown_where_it_is_wanted_in_the_last_step_too(include: bool, shown: str) -> None:
    ids = tiny_tokenizer().encode("a END b")
    for end in (None, "length"):
        generation = make(stop=("END",), include_stop=include)
        assert told(run(generation, [EngineOutput("r-0", ids, finish_reason=end)]))[1:] == (shown, "", "stop", "END")
    suspected = make(tool_parser="hermes", tools=TOOLS, stop=("<tool",), include_stop=include)
    last = EngineOutput("r-0", tiny_tokenizer().encode("a <tool"), finish_reason="length")
    assert told(run(suspected, [last]))[1:] == (shown.replace("END", "<tool"), "", "stop", "<tool")


def test_where_no_tool_may_be_called_a_call_is_text() -> None:
    deltas = run(make(tool_parser="hermes", tools=TOOLS, tool_choice="none"), outputs(ANSWERS[3], [3]))
    assert told(deltas)[1:4] == (ANSWERS[3], "", "stop")


@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_a_call_interrupts_is_not_lost(size: int) -> None:
    """The beginning of a stop string that a call follows was text after all; it comes before the call."""
    answer = 'See EN<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>D'
    deltas = run(make(tool_parser="hermes", tools=TOOLS, stop=("END",)), outputs(answer, [size]))
    events = [event for delta in deltas for event in delta.events]
    start = next(i for i, event in enumerate(events) if isinstance(event, CallStart))
    assert "".join(event.text for event in events[:start] if isinstance(event, Content)) == "See EN"
    assert told(deltas)[1:] == ("See END", "{}", "tool_calls", None)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_tokens_after_a_stop_string_are_not_counted(size: int) -> None:
    generation = make(stop=("STOP",))
    deltas = run(generation, outputs("abc STOP and much more", [size]))
    assert told(deltas)[1] == "abc "
    assert generation.usage.completion_tokens == len(tiny_tokenizer().encode("abc STOP"))
    assert sum(len(delta.token_ids) for delta in deltas) == generation.usage.completion_tokens


@settings(max_examples=examples(30))
@given(st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable()), st.integers(1, 7))
def test_no_logprob_is_lost_while_text_is_held_back(text: str, size: int) -> None:
    generation = make(sampling={"logprobs": 0}, stop=("\x00never",))
    deltas = run(generation, outputs(text, [size], logprobs=True))
    ids = tiny_tokenizer().encode(text)
    assert [entry.token_id for delta in deltas for entry in delta.logprobs or ()] == ids
    assert told(deltas)[1] == text


@pytest.mark.parametrize(
    ("text", "part", "waits", "follows"),
    [("a EN", "stop strings", "EN", "d"), ("<tool", "parsing", "<tool", "s>"), ("a🚀", "decoding", "f0 9f 9a", "")],
)
def test_what_waits_is_told_with_the_part_it_waits_in(text: str, part: str, waits: str, follows: str) -> None:
    choice = make(tool_parser="hermes", tools=TOOLS, stop=("END",)).choices[0]
    ids = tiny_tokenizer().encode(text)
    now = ids if text.isascii() else ids[:-1]
    choice.feed(EngineOutput("r-0", now))
    (held,) = choice.held
    assert (held.part, held.text) == (part, waits)
    choice.feed(EngineOutput("r-0", [*ids[len(now) :], *tiny_tokenizer().encode(follows)]))
    assert choice.held == []


def test_a_step_gives_one_event_for_each_kind_and_place() -> None:
    given: list[Any] = [Content("a"), Content("b"), Reasoning("c"), Reasoning("d"), Content("e")]
    given += [CallArguments(0, "f"), CallArguments(0, "g"), CallArguments(1, "h"), CallArguments(1, "i")]
    joined = [Content("ab"), Reasoning("cd"), Content("e"), CallArguments(0, "fg"), CallArguments(1, "hi")]
    for cut in range(len(given) + 1):
        events: list[Any] = []
        for part in (given[:cut], given[cut:]):
            _merge(events, part)
        assert events == joined


@pytest.mark.parametrize("content", [False, True])
def test_logprobs_are_those_of_all_tokens_or_of_the_contents(content: bool) -> None:
    text = "<think>one</think>two"
    generation = make(reasoning_parser="qwen3", sampling={"logprobs": 0}, content_logprobs=content)
    deltas = run(generation, outputs(text, [1], logprobs=True))
    ids = [entry.token_id for delta in deltas for entry in delta.logprobs or ()]
    assert ids == tiny_tokenizer().encode("two" if content else text)


def test_half_a_character_at_the_end() -> None:
    generation = make()
    half = tiny_tokenizer().encode("🚀")[:2]
    deltas = run(generation, [EngineOutput("r-0", half), EngineOutput("r-0", (), finish_reason="length")])
    assert told(deltas)[1] == "\ufffd"
    assert told(deltas)[3] == "length"


def test_special_tokens_are_text_where_that_is_asked_for() -> None:
    ids = [*tiny_tokenizer().encode("a"), tiny_tokenizer().token_to_id("<|fim_middle|>"), *tiny_tokenizer().encode("b")]
    ended = [EngineOutput("r-0", ids), EngineOutput("r-0", (), finish_reason="stop")]
    assert told(run(make(), ended))[1] == "ab"
    assert told(run(make(skip_special_tokens=False), ended))[1] == "a<|fim_middle|>b"


@pytest.mark.parametrize("size", [1, 100])
def test_of_several_calls_only_the_first_is_told_where_one_is_wanted(size: int) -> None:
    text = "".join(f'<tool_call>\n{{"name": "f", "arguments": {{"n": {n}}}}}\n</tool_call>' for n in (1, 2))
    for parallel, calls in ((True, 2), (False, 1)):
        generation = make(tool_parser="hermes", tools=TOOLS, parallel=parallel)
        events = [event for delta in run(generation, outputs(text, [size])) for event in delta.events]
        assert sum(isinstance(event, CallStart) for event in events) == calls


def test_the_stop_token_is_counted_and_shown_only_on_request() -> None:
    end = tiny_tokenizer().token_to_id("<|end|>")
    last = EngineOutput("r-0", tiny_tokenizer().encode("hi"), finish_reason="stop", stop_token=end)
    silent = make(sampling={"stop_token_ids": frozenset({end})})
    deltas = run(silent, [last])
    assert told(deltas)[1:] == ("hi", "", "stop", end)
    assert deltas[-1].stop_token == end
    assert silent.usage.completion_tokens == 3
    shown = make(sampling={"stop_token_ids": frozenset({end})}, include_stop=True)
    assert told(run(shown, [last]))[1] == "hi<|end|>"
    by_itself = make()
    assert told(run(by_itself, [last]))[4] is None


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("stop", [(), ("never",)])
def test_tokens_inside_a_thought_are_counted(size: int, stop: tuple[str, ...]) -> None:
    """From behind the opening marker, which may stand in the prompt, to the end of the closing one."""
    inside, answer = " \n Hm. Well.\n</think>", "\n\nThe answer."
    opened = make(reasoning_parser="qwen3", prompt_tail="<think>\n", stop=stop)
    deltas = run(opened, outputs(inside + answer, [size]))
    assert told(deltas)[:2] == ("Hm. Well.", "The answer.")
    assert opened.usage.reasoning_tokens == len(inside)
    opens = make(reasoning_parser="qwen3", stop=stop)
    run(opens, outputs("<think>" + inside + answer, [size]))
    assert opens.usage.reasoning_tokens == len(inside)
    unfinished = make(reasoning_parser="qwen3", prompt_tail="<think>\n", stop=stop)
    run(unfinished, outputs("Hm. Well.", [size], "length"))
    assert unfinished.usage.reasoning_tokens == len("Hm. Well.")


def test_choices_are_engine_requests_of_their_own() -> None:
    generation = make(n=3, sampling={"seed": 5})
    requests = generation.engine_requests()
    assert [one.request_id for one in requests] == generation.engine_ids
    assert not {*generation.engine_ids} & {*make(n=3).engine_ids}, "two clients may choose one request id"
    assert [one.sampling.seed for one in requests] == [5, 6, 7]
    assert generation.usage.cached_tokens is None
    generation.choices[1].feed(EngineOutput("r-1", [65], finish_reason="stop"))
    assert not generation.finished
    for index in (0, 2):
        last = EngineOutput(f"r-{index}", [66], finish_reason="length", cached_tokens=index)
        generation.choices[index].feed(last)
    assert generation.finished
    assert generation.usage.completion_tokens == 3
    assert generation.usage.prompt_tokens == 3
    assert generation.usage.cached_tokens == 0, "what no choice had to compute"


def test_whose_client_decodes_is_told_of_every_token_at_once() -> None:
    spec = GenerationSpec(request_id="r", prompt_ids=[1], sampling=SamplingParams(max_tokens=9), n=2, stop=("END",))
    generation = TokenGeneration(spec, tiny_tokenizer())
    assert [choice.index for choice in generation.choices] == [0, 1]
    ids = tiny_tokenizer().encode("a EN")
    deltas = [generation.choices[0].feed(EngineOutput("r-0", [token])) for token in ids]
    assert [delta and list(delta.token_ids) for delta in deltas] == [[token] for token in ids]
    assert told([delta for delta in deltas if delta])[1] == "a "


def test_whatever_a_request_and_its_engine_call_alike_is_handed_over() -> None:
    common = {field.name for field in fields(GenerationSpec)} & set(EngineRequest.__struct_fields__) - {"request_id"}
    own = {"generated": [7], "sampling": SamplingParams(max_tokens=5)}
    values: dict[str, Any] = {name: f"its {name}" for name in common} | own
    spec = GenerationSpec(**{"request_id": "r", "prompt_ids": [1, 2, 3], **values})
    (request,) = Generation(spec, tiny_tokenizer()).engine_requests()
    assert {name: getattr(request, name) for name in common} == values
    assert request.token_ids == [1, 2, 3]


def test_an_answer_taken_up_knows_what_the_client_has_until_it_is_forgotten() -> None:
    choice = make(generated=[5, 6]).choices[0]
    choice.feed(EngineOutput("r-0", tiny_tokenizer().encode("ab")))
    whole = [5, 6, *tiny_tokenizer().encode("ab")]
    assert choice.token_ids == whole
    assert choice.pack() == 4
    assert choice.token_ids == whole
    choice.forget()
    choice.feed(EngineOutput("r-0", [65]))
    assert choice.pack() == 0
    assert choice.token_ids is None


class Seen:
    """A watch that keeps all it is told."""

    def __init__(self) -> None:
        self.outputs: list[EngineOutput] = []
        self.text, self.seconds = "", set[float]()
        self.deltas: list[Delta | None] = []

    def took(self, output: EngineOutput) -> None:
        self.outputs.append(output)

    def decoded(self, text: str, seconds: float) -> None:
        self.text += text
        self.seconds.add(seconds)

    def parsed(self, seconds: float) -> None:
        self.seconds.add(seconds)

    def gave(self, delta: Delta | None) -> None:
        self.deltas.append(delta)

    def lost(self, why: str) -> None: ...


@pytest.mark.parametrize("text", ANSWERS)
@pytest.mark.parametrize("size", [1, 4])
def test_who_watches_sees_all_and_changes_nothing(text: str, size: int) -> None:
    rules: dict[str, Any] = {"tool_parser": "hermes", "reasoning_parser": "qwen3", "tools": TOOLS, "stop": ("🚀E",)}
    alone, seen = make(**rules), make(**rules)
    given, plain = outputs(text, [size]), told(run(alone, outputs(text, [size])))
    watches, clock = [Seen(), Seen()], count()
    feed = watched(seen.choices[0], watches, lambda: float(next(clock)))
    deltas = [feed(output) for output in given]
    assert told([delta for delta in deltas if delta is not None]) == plain
    assert seen.usage == alone.usage
    for fact in ("held", "in_call", "outcomes", "recoveries"):
        assert getattr(seen.choices[0], fact) == getattr(alone.choices[0], fact)
    for watch in watches:
        assert watch.outputs == given
        assert watch.text == text
        assert watch.seconds == {1.0}, "each part's own"
        assert watch.deltas == deltas
