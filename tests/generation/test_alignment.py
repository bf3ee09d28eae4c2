"""Logprobs of the content alone: their tokens spell what the client reads, however the answer is cut into steps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.events import Content, EngineOutput, SamplingParams, TokenLogprob
from portico.generation import Delta, Generation, GenerationSpec
from portico.generation.alignment import ContentTokens
from support.effort import examples
from support.generation import tiny_tokenizer

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "Hello"}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
ANSWERS = [
    "Hello there 🗼!",
    "<think>\nHello? 🗼\n</think>\n\nHello there.",
    f"<think>Hello</think>Hello {CALL} Hello again 🗼",
    f"Hello <b>Hello</b> <tool_{CALL}{CALL}",
    "<think>never ends Hello",
    "",
]


def run(text: str, sizes: list[int], stop: list[str], end: str = "stop") -> list[Delta]:
    """The deltas of ``text``, one token per byte, in steps of ``sizes``, each byte with its own logprob."""
    tokenizer = tiny_tokenizer()
    spec = GenerationSpec(
        request_id="r",
        prompt_ids=[1],
        sampling=SamplingParams(max_tokens=10_000, logprobs=0),
        tool_parser="hermes",
        reasoning_parser="qwen3",
        tools=TOOLS,
        stop=stop,
        skip_special_tokens=False,
        content_logprobs=True,
    )
    (choice,) = Generation(spec, tokenizer).choices
    ids = [BYTES[byte] for byte in text.encode()]
    deltas = []
    for size in [*sizes, len(ids)]:
        step, ids = ids[:size], ids[size:]
        delta = choice.feed(EngineOutput("r", step, [TokenLogprob(token, -0.5) for token in step]))
        deltas += [delta] if delta is not None else []
        if choice.finished:
            return deltas
    last = choice.feed(EngineOutput("r", (), (), finish_reason=end))
    assert last is not None
    return [*deltas, last]


def byte_ids() -> dict[int, int]:
    tokenizer = tiny_tokenizer()
    return {tokenizer.token_bytes(token)[0]: token for token in range(256)}


BYTES = byte_ids()


@settings(max_examples=examples(25))
@pytest.mark.parametrize("text", ANSWERS)
@given(sizes=st.lists(st.integers(0, 9), max_size=20), stop=st.sampled_from([[], ["there"], ["again"], ["\n\nx"]]))
def test_the_tokens_spell_the_content(text: str, sizes: list[int], stop: list[str]) -> None:
    deltas = run(text, sizes, stop)
    shown = logged = b""
    for delta in deltas:
        shown += "".join(event.text for event in delta.events if isinstance(event, Content)).encode()
        logged += b"".join(tiny_tokenizer().token_bytes(one.token_id) for one in delta.logprobs or ())
        assert logged == shown


def test_a_token_across_the_border_counts() -> None:
    """A token that is half marker and half content is one of the content's."""
    aligned = ContentTokens()
    aligned.expect([TokenLogprob(1, -1.0), TokenLogprob(2, -2.0), TokenLogprob(3, -3.0)])
    aligned.feed("<think>hm</thi", [], "</thi")
    aligned.feed("nk>Yes", [Content("Yes")], "")
    aligned.feed(", so", [Content(", so")], "")
    assert [one.token_id for one in aligned.shown(3)] == [2]
    assert [one.token_id for one in aligned.shown(4)] == [3]
