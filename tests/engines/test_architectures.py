"""The engine's laws over every architecture that people run, on tiny models with random weights.

What is cached, what runs beside, and what was preempted never show in an answer. An answer is compared with the same
one computed alone and without a cache; where the two likeliest tokens are closer than kernels round (which differs
between batches), the comparison ends.

One architecture of each kind of memory and of layer is fast; its cousins are slow.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from portico.engines.llamacpp import LlamaCppEngine
from support.llamacpp import Answer, Client
from support.tiny_models import ARCHITECTURES, CONTEXT, VOCABULARY, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEAR: float = 0.1  # in logprob
SEQUENCES = 4

COUSINS = {"llama", "qwen2", "mixtral", "olmoe", "mamba", "falcon-h1"}  # of what is left: their layers in other orders
EACH = [pytest.param(name, marks=[pytest.mark.slow] if name in COUSINS else []) for name in ARCHITECTURES]

RULES: dict[str, Any] = {"ignore_eos": True, "logprobs": 2}

_salts = count()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=EACH)
async def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    path: Path = write(request.param, tmp_path_factory.mktemp("models") / f"{request.param}.gguf")
    engine = LlamaCppEngine(
        path, model_id=request.param, threads=1, max_sequences=SEQUENCES, batch_tokens=64, cache_tokens=CONTEXT
    )
    async with Client(engine) as running:
        yield running


def prompt(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(VOCABULARY - 2), k=length)


async def alone(client: Client, ids: Sequence[int], tokens: int = 24, **rules: Any) -> Answer:
    """The answer without a cache."""
    return await client.run(ids, max_tokens=tokens, salt=f"alone {next(_salts)}", **RULES, **rules)


def assert_same(found: Answer, expected: Answer) -> None:
    """Equal, up to a token that could be either of two."""
    assert found.finish == expected.finish
    for one, other in zip(found.logprobs, expected.logprobs, strict=True):
        if one.token_id != other.token_id:
            (_, first), (_, second) = other.top
            assert first - second < NEAR, f"{one} is not {other}"
            return
        assert one.logprob == pytest.approx(other.logprob, abs=NEAR)


async def test_a_prompt_again_longer_and_shorter(client: Client) -> None:
    ids = prompt(1, 70)
    first = await client.run(ids, max_tokens=24, **RULES)
    assert_same(first, await alone(client, ids))
    again = await client.run(ids, max_tokens=24, **RULES)
    assert again.first.cached_tokens == len(ids) - 1
    assert_same(again, first)
    longer = [*ids, *first.ids, *prompt(2, 30)]
    second_turn = await client.run(longer, max_tokens=24, **RULES)
    assert second_turn.first.cached_tokens in (len(ids) + 23, len(ids) - 1)  # where both were copies of one state
    assert_same(second_turn, await alone(client, longer))
    other_answer = [*ids[:-9], *prompt(4, 40)]
    told_otherwise = await client.run(other_answer, max_tokens=24, **RULES)
    assert (told_otherwise.first.cached_tokens or 0) >= len(ids) - 17
    assert_same(told_otherwise, await alone(client, other_answer))
    for shorter in (ids[:50], [*ids[:35], *prompt(3, 20)], ids[:1]):
        assert_same(await client.run(shorter, max_tokens=24, **RULES), await alone(client, shorter))
    assert_same(await client.run(longer, max_tokens=24, **RULES), await alone(client, longer))


async def test_many_at_once_are_each_alone(client: Client) -> None:
    prompts = [prompt(10 + number, 5 + 9 * number) for number in range(6)]
    together = await asyncio.gather(*(client.run(ids, max_tokens=24, **RULES) for ids in prompts))
    for ids, answer in zip(prompts, together, strict=True):
        assert_same(answer, await alone(client, ids))


async def test_several_choices_of_one_prompt_are_one(client: Client) -> None:
    ids = prompt(20, 60)
    for answer in await asyncio.gather(*(client.run(ids, max_tokens=12, **RULES) for _ in range(3))):
        assert_same(answer, await alone(client, ids, 12))


async def test_who_was_preempted_goes_on(client: Client) -> None:
    """Together they need twice the cells there are."""
    prompts = [prompt(30 + number, 130) for number in range(SEQUENCES)]
    together = await asyncio.gather(*(client.run(ids, max_tokens=120, **RULES) for ids in prompts))
    for ids, answer in zip(prompts, together, strict=True):
        assert_same(answer, await alone(client, ids, 120))


async def test_who_left_in_the_middle_left_nothing_wrong(client: Client) -> None:
    """Neither within the prompt nor within the answer, for who asks the same and for who is beside it."""
    ids, other = prompt(60, 150), prompt(61, 40)
    expected, expected_beside = await alone(client, ids), await alone(client, other)
    for begun in (False, True):
        leaving = await client.submit(ids, max_tokens=200, **RULES)
        beside = asyncio.create_task(client.run(other, max_tokens=24, **RULES))
        if begun:
            await asyncio.wait_for(leaving.begun.wait(), 120)
        client.engine.abort(leaving.request_id)
        assert_same(await beside, expected_beside)
        assert_same(await client.run(ids, max_tokens=24, **RULES), expected)


async def test_each_turn_of_a_conversation_finds_the_one_before(client: Client) -> None:
    said, before = prompt(70, 40), 0
    for turn in range(3):
        answer = await client.run(said, max_tokens=20, **RULES)
        assert_same(answer, await alone(client, said, 20))
        assert (answer.first.cached_tokens or 0) >= before
        before = len(said) - 1
        said = [*said, *answer.ids, *prompt(71 + turn, 25)]


async def test_logprobs_are_those_of_the_whole_text(client: Client) -> None:
    """What an answer's tokens were worth step by step, they are worth in one pass over all of it."""
    ids = prompt(40, 40)
    answer = await client.run(ids, max_tokens=20, **RULES)
    whole = await client.run([*ids, *answer.ids], max_tokens=1, prompt_logprobs=1, **RULES)
    scored = (whole.first.prompt_logprobs or ())[len(ids) :]
    assert len(scored) == 20
    for one, again in zip(answer.logprobs, scored, strict=True):
        assert again is not None
        assert again.token_id == one.token_id
        assert again.logprob == pytest.approx(one.logprob, abs=NEAR)
        assert one.logprob == one.top[0][1], "greedy"


async def test_an_answer_that_is_taken_up(client: Client) -> None:
    ids = prompt(50, 40)
    whole = await client.run(ids, max_tokens=24, frequency_penalty=0.5, **RULES)
    for cut in (1, 11, 23):
        rest = await client.run(ids, max_tokens=24, frequency_penalty=0.5, generated=whole.ids[:cut], **RULES)
        whole_rest = Answer("", [])
        whole_rest.outputs = whole.outputs[cut:]
        assert_same(rest, whole_rest)
