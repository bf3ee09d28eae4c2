"""A thought has as many tokens as its budget says, wherever it opens; nothing is cut in the middle of a character or of
a marker; the grammar behind it still holds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from portico.engines.llamacpp import LlamaCppEngine
from portico.engines.llamacpp.thinking import PATIENCE, Thoughts
from portico.errors import BadRequestError
from portico.events import ThoughtBudget
from portico.prompting import Tokenizer, load_tokenizer
from support.llamacpp import Client

# Token ids are bytes; 256 and up are markers of one token, as vocabularies have them.
OPEN, CLOSE = 256, 257
WORDS = {OPEN: b"<think>", CLOSE: b"</think>"}
NEWLINES = (10, 10)


def thoughts(tokens: int, *, is_open: bool = True, close: tuple[int, ...] = (10, CLOSE, 10)) -> Thoughts:
    budget = ThoughtBudget(tokens, close, ("<think>",), ("</think>", "<tool_call>"), is_open)
    return Thoughts(budget, lambda token: WORDS.get(token) or bytes([token]))


def run(machine: Thoughts, wanted: list[int] | bytes) -> list[int]:
    """The tokens that come when the model wants these, one after the other; a forced one takes no turn."""
    came: list[int] = []
    left = list(wanted)
    while left or machine.must() is not None:
        forced = machine.must()
        token = left.pop(0) if forced is None else forced
        machine.take(token)
        came.append(token)
    return came


@given(st.binary(max_size=40).filter(lambda text: text.isascii() and b"<" not in text), st.integers(0, 50))
def test_exactly_as_many_tokens(text: bytes, tokens: int) -> None:
    came = run(thoughts(tokens), text)
    if tokens > len(text):
        assert came == list(text)
    else:
        assert came == [*text[:tokens], 10, CLOSE, 10, *text[tokens:]]


@given(st.text(max_size=20), st.integers(0, 30))
def test_no_character_is_cut(text: str, tokens: int) -> None:
    """Also none of several bytes, each of them a token."""
    wanted = text.encode()
    came = run(thoughts(tokens), wanted)
    at = came.index(CLOSE) - 1 if CLOSE in came else len(came)
    bytes(came[:at]).decode()  # raises if a character was cut
    assert bytes(came[:at]) == wanted[:at]
    if at < len(wanted):
        assert tokens <= at < tokens + PATIENCE


@pytest.mark.parametrize("at", range(1, len(b"</think>")))
def test_half_a_closing_marker_is_waited_for(at: int) -> None:
    """Spelled out of ordinary tokens, and the budget ends inside: the model's own end is the end."""
    text = b"Hm.</think>\n\nYes."
    assert run(thoughts(3 + at), text) == list(text)


def test_waiting_has_an_end() -> None:
    came = run(thoughts(4), b"<" * 100)
    assert came.index(CLOSE) == 4 + PATIENCE + 1


@pytest.mark.parametrize("opener", [[OPEN], list(b"<think>")])
def test_a_thought_that_the_model_opens(opener: list[int]) -> None:
    came = run(thoughts(3, is_open=False), [*b"\n", *opener, *b"abcdef"])
    assert came == [*b"\n", *opener, *b"abc", 10, CLOSE, 10, *b"def"]


@pytest.mark.parametrize("text", [b"No thought. ", b"<thinking> ", b"`"])
def test_an_opener_behind_other_text_is_text(text: bytes) -> None:
    machine = thoughts(0, is_open=False)
    wanted = [*text, OPEN, *b"abcdef"]
    assert run(machine, wanted) == wanted
    assert machine.over


def test_all_thoughts_share_the_budget() -> None:
    wanted = [*b"abc", CLOSE, *NEWLINES, OPEN, *b"de"]
    assert run(thoughts(6), wanted) == [*wanted, 10, CLOSE, 10]  # the marker that ended the first one counts too
    assert run(thoughts(4), wanted)[:8] == [*wanted[:7], 10], "one that opens when all is spent ends at once"


def test_a_call_ends_a_thought() -> None:
    wanted = list(b'ab<tool_call>{"name": "<think>"}</tool_call> and much more')
    assert run(thoughts(14), wanted) == wanted


# -- on the real model ------------------------------------------------------------------------------------------------

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
    return load_tokenizer(smollm2_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(smollm2_path: Path) -> AsyncIterator[Client]:
    engine = LlamaCppEngine(smollm2_path, model_id="smollm2", context_length=2048, max_sequences=4)
    async with Client(engine) as running:
        yield running


def budget(tokenizer: Tokenizer, tokens: int, is_open: bool) -> ThoughtBudget:
    close = tokenizer.encode("\n</think>\n\n", add_special_tokens=False)
    return ThoughtBudget(tokens, tuple(close), ("<think>",), ("</think>",), is_open)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("tokens", [0, 1, 7, 20])
async def test_the_model_is_cut_short(client: Client, tokenizer: Tokenizer, tokens: int) -> None:
    prompt = list(tokenizer.encode(PROMPT + "<think>\n"))
    thought = budget(tokenizer, tokens, is_open=True)
    (word,) = tokenizer.encode(" well", add_special_tokens=False)
    rules = {"max_tokens": 40, "ignore_eos": True, "logit_bias": {word: 100.0}}  # it would go on for ever
    answer = await client.run(prompt, thought=thought, logprobs=1, **rules)
    end = tokens + len(thought.close)
    assert answer.ids[:tokens] == [word] * tokens
    assert tuple(answer.ids[tokens:end]) == thought.close
    assert len(answer.ids) == 40, "the closing ids count like all others"
    assert [one.token_id for one in answer.logprobs] == answer.ids
    assert answer.finish == "length"


@pytest.mark.asyncio(loop_scope="module")
async def test_the_closing_ids_count_for_penalties(client: Client, tokenizer: Tokenizer) -> None:
    thought = budget(tokenizer, 0, is_open=True)
    favourite = thought.close[2]
    rules = {"thought": thought, "logit_bias": {favourite: 50.0}, "max_tokens": len(thought.close) + 1}
    prompt = list(tokenizer.encode(PROMPT + "<think>\n"))
    assert (await client.run(prompt, **rules)).ids[-1] == favourite
    assert (await client.run(prompt, presence_penalty=1000.0, **rules)).ids[-1] != favourite


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("is_open", [True, False])
async def test_the_grammar_behind_a_thought_holds(client: Client, tokenizer: Tokenizer, is_open: bool) -> None:
    lark = f"""start: {"" if is_open else '"<think>" '}thought "\\n\\n" answer
        thought[suffix="</think>"]: /(?s:.*)/
        answer: %json {{"type": "object", "properties": {{"city": {{"enum": ["Paris", "Oslo"]}}}},
                        "required": ["city"], "additionalProperties": false}}
    """
    prompt = list(tokenizer.encode(PROMPT + ("<think>\n" if is_open else "")))
    rules = {"lark": lark, "max_tokens": 200, "temperature": 1.0, "ignore_eos": True}
    for seed in range(4):
        answer = await client.run(prompt, seed=seed, thought=budget(tokenizer, 9, is_open), **rules)
        thinking, _, rest = tokenizer.decode(answer.ids).partition("</think>\n\n")
        assert json.loads(rest)["city"] in ("Paris", "Oslo")
        spent = len(tokenizer.encode(thinking.removeprefix("<think>"), add_special_tokens=False))
        assert spent <= 9 + PATIENCE + 1
        assert answer.finish == "stop"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_grammar_without_thoughts_is_left_alone(client: Client, tokenizer: Tokenizer) -> None:
    answer = await client.run(
        list(tokenizer.encode(PROMPT)), lark='start: "never" "mind"', thought=budget(tokenizer, 0, is_open=True)
    )
    assert tokenizer.decode(answer.ids) == "nevermind"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "bad",
    [
        ThoughtBudget(5, (), ("<think>",), ("</think>",)),
        ThoughtBudget(5, (1 << 40,), ("<think>",), ("</think>",)),
        ThoughtBudget(5, (1,), ("<think>",), ()),
        ThoughtBudget(5, (1,), ("<think>",), (" ",)),
        ThoughtBudget(-1, (1,), ("<think>",), ("</think>",)),
    ],
)
async def test_a_budget_that_cannot_be_kept_is_refused(client: Client, bad: ThoughtBudget) -> None:
    with pytest.raises(BadRequestError, match="thought"):
        await client.run([1, 2], thought=bad)
