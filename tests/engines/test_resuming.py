"""An answer that is taken up goes on as if nothing had happened, whatever its rules and wherever it was cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from portico.engines import EngineInfo
from portico.engines.grpc import GrpcEngine
from portico.engines.llamacpp import LlamaCppEngine
from portico.engines.replay import ReplayEngine, Script
from portico.engines.resuming import AS_PROMPT, EVERYTHING, as_prompt, can_resume, continued_seed
from portico.errors import BadRequestError, NotSupportedError
from portico.events import Constraint, EngineOutput, EngineRequest, SamplingParams, ThoughtBudget
from portico.prompting import Tokenizer, load_tokenizer
from support.grpc import calling
from support.llamacpp import Answer, Client

# -- the rules --------------------------------------------------------------------------------------------------------


def test_which_requests_an_engine_takes_up() -> None:
    engines = {
        kind: EngineInfo("m", 10, 10, frozenset({"generate"}), resumes=kind)
        for kind in (frozenset[str](), AS_PROMPT, EVERYTHING)
    }
    thought = ThoughtBudget(5, (1,), ("<think>",), ("</think>",))
    for rules, constraint, by_prompt in (
        ({"repetition_penalty": 1.2, "min_tokens": 3, "seed": 1}, None, True),
        ({"frequency_penalty": 0.1}, None, False),
        ({"presence_penalty": 0.1}, None, False),
        ({"thought": thought}, None, False),
        ({}, Constraint('start: "a"'), False),
    ):
        request = EngineRequest("r", [1], SamplingParams(max_tokens=9, **rules), constraint)  # type: ignore[arg-type]
        assert [can_resume(info, request) for info in engines.values()] == [False, by_prompt, True]
        if not by_prompt:
            with pytest.raises(NotSupportedError):
                as_prompt(replace(request, generated=[5]))


@given(
    st.lists(st.integers(0, 99), min_size=1), st.lists(st.integers(0, 99)), st.integers(0, 9), st.none() | st.integers()
)
def test_as_a_prompt(prompt: list[int], generated: list[int], least: int, seed: int | None) -> None:
    rules = SamplingParams(max_tokens=len(generated) + 5, min_tokens=least, seed=seed, prompt_logprobs=1)
    asked = as_prompt(EngineRequest("r", prompt, rules, generated=generated))
    assert list(asked.token_ids) == prompt + generated
    assert not asked.generated
    assert asked.sampling.max_tokens == 5
    assert asked.sampling.min_tokens == max(0, least - len(generated))
    assert (asked.sampling.prompt_logprobs is None) == bool(generated)
    assert asked.sampling.seed == continued_seed(seed, len(generated))


def test_seeds_go_on_afresh_and_repeatably() -> None:
    assert continued_seed(None, 5) is None
    assert continued_seed(7, 0) == 7
    assert len({continued_seed(7, count) for count in range(50)}) == 50


# -- engines that play ------------------------------------------------------------------------------------------------


async def played(engine: Any, request: EngineRequest) -> list[EngineOutput]:
    """Every output of one request."""
    await engine.submit(request)
    outputs: list[EngineOutput] = []
    async for step in engine.steps():
        outputs += [output for output in step if output.request_id == request.request_id]
        if outputs and outputs[-1].finish_reason is not None:
            break
    return outputs


def ids_of(outputs: list[EngineOutput]) -> list[int]:
    return [token for output in outputs for token in output.token_ids]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 14), st.data())
def test_replay(script: list[int], per_step: int, most: int, data: st.DataObject) -> None:
    async def run() -> None:
        engine = ReplayEngine([Script([99]), Script(script)], tokens_per_step=per_step)
        rules = SamplingParams(max_tokens=most, logprobs=0)
        whole = ReplayEngine([Script(script)], tokens_per_step=per_step)
        full = await played(whole, EngineRequest("r", [1], rules))
        ids = ids_of(full)
        cut = data.draw(st.integers(1, max(1, len(ids) - (1 if full[-1].finish_reason == "length" else 0))))
        rest = await played(engine, EngineRequest("r", [1], rules, generated=ids[:cut]))
        if cut < most:
            assert ids[:cut] + ids_of(rest) == ids
        assert rest[-1].finish_reason == full[-1].finish_reason or cut == most
        assert all(output.cached_tokens is None for output in rest)

    asyncio.run(run())


@pytest.mark.parametrize("resumes", [AS_PROMPT, EVERYTHING])
async def test_grpc(resumes: frozenset[str]) -> None:
    """Portico's own server is told what exists; any other is given it as a part of the prompt."""
    ids = list(range(40, 60))

    async with calling({"a": Script(ids)}, resumes=resumes) as up:
        engine = GrpcEngine(f"grpc://{up.target}")
        await engine.start()
        assert engine.info.resumes == resumes
        try:
            request = EngineRequest("r", [1], SamplingParams(max_tokens=15, prompt_logprobs=None), generated=ids[:7])
            outputs = await played(engine, request)
            (arrived,) = up.requests
            if resumes == EVERYTHING:
                assert ids_of(outputs) == ids[7:15]
                assert (list(arrived.token_ids), list(arrived.generated)) == ([1], ids[:7])
            else:
                assert (list(arrived.token_ids), list(arrived.generated)) == ([1, *ids[:7]], [])
                assert arrived.sampling.max_tokens == 8
            assert all(output.cached_tokens is None for output in outputs)
            assert outputs[-1].finish_reason == "length"
        finally:
            await engine.close()


# -- the embedded engine ----------------------------------------------------------------------------------------------
# What exists is found in the cache where it was computed, so the arithmetic repeats and the answers must be equal.


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
    return load_tokenizer(smollm2_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(smollm2_path: Path) -> AsyncIterator[Client]:
    async with Client(LlamaCppEngine(smollm2_path, model_id="m", context_length=1024, max_sequences=2)) as running:
        yield running


CITIES = """
start: "[" city ("," city){3} "]"
city: /"[A-Z][a-z]{3,8}"/
"""
RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "logprobs": {"logprobs": 2},
    "repetition": {"repetition_penalty": 1.3},
    "frequency and presence": {"frequency_penalty": 0.7, "presence_penalty": 0.4},
    "min_tokens": {"min_tokens": 20},
    "a grammar": {"lark": CITIES, "max_tokens": 60},
    "a grammar that ends": {"lark": 'start: "Paris is a city in France."', "max_tokens": 60},
    "a budget": {"thought": "open"},
    "a banned word": {"bad_words": ((3575,), (314, 7042))},
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", RULES)
async def test_the_embedded_engine(client: Client, tokenizer: Tokenizer, kind: str) -> None:
    assert client.engine.info.resumes == EVERYTHING
    rules = {"max_tokens": 24, **RULES[kind]}
    if rules.get("thought"):
        close = tuple(tokenizer.encode("</think>\n"))
        rules["thought"] = ThoughtBudget(9, close, ("<think>",), ("</think>",), True)
    prompt = list(tokenizer.encode("<|im_start|>user\nName a city.<|im_end|>\n<|im_start|>assistant\n"))
    whole = await client.run(prompt, **rules)
    assert len(whole.ids) > 4
    last = len(whole.ids) - (whole.finish == "length")
    for cut in sorted({1, 4, last // 2, last - 1, last}):
        rest: Answer = await client.run(prompt, generated=whole.ids[:cut], **rules)
        assert whole.ids[:cut] + rest.ids == whole.ids, f"cut at {cut}"
        assert (rest.finish, rest.last.stop_token) == (whole.finish, whole.last.stop_token)
        assert rest.first.cached_tokens is None
        assert [one.token_id for one in rest.logprobs] == [one.token_id for one in whole.logprobs[cut:]]


@pytest.mark.asyncio(loop_scope="module")
async def test_prompt_logprobs_are_not_given_twice(client: Client) -> None:
    whole = await client.run([1, 2, 3, 4], prompt_logprobs=1, max_tokens=4, ignore_eos=True)
    assert whole.first.prompt_logprobs
    rest = await client.run([1, 2, 3, 4], generated=whole.ids[:2], prompt_logprobs=1, max_tokens=4, ignore_eos=True)
    assert rest.first.prompt_logprobs is None
    assert whole.ids[:2] + rest.ids == whole.ids


@pytest.mark.asyncio(loop_scope="module")
async def test_a_seed_makes_the_continuation_repeatable(client: Client) -> None:
    rules = {"temperature": 1.5, "seed": 5, "ignore_eos": True, "max_tokens": 20}
    whole = await client.run([1, 2, 3, 4], **rules)
    first, second = [(await client.run([1, 2, 3, 4], generated=whole.ids[:6], **rules)).ids for _ in range(2)]
    assert first == second
    assert len(first) == 14


@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_is_refused(client: Client) -> None:
    with pytest.raises(BadRequestError, match="generated"):
        await client.submit([1, 2], generated=[10**6])
    with pytest.raises(BadRequestError, match="generated already does not follow it"):
        await client.submit([1, 2], generated=[504], lark=CITIES)
