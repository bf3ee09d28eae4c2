"""The replay engine plays what it was given, at the pace it was told, within the request's rules."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.engines.replay import ReplayEngine, Script
from portico.events import EngineOutput, EngineRequest, SamplingParams
from support.effort import examples
from support.work import calls


def request(request_id: str, max_tokens: int = 1000, **rules: object) -> EngineRequest:
    return EngineRequest(request_id, [1, 2, 3], SamplingParams(max_tokens=max_tokens, **rules))  # type: ignore[arg-type]


async def play(engine: ReplayEngine, requests: list[EngineRequest]) -> dict[str, list[EngineOutput]]:
    outputs: dict[str, list[EngineOutput]] = {one.request_id: [] for one in requests}
    for one in requests:
        await engine.submit(one)
    left = set(outputs)
    async for batch in engine.steps():
        for output in batch:
            outputs[output.request_id].append(output)
            if output.finish_reason is not None:
                left.discard(output.request_id)
        if not left:
            await engine.close()
    return outputs


@settings(max_examples=examples(25))
@given(
    scripts=st.lists(st.lists(st.integers(0, 50), max_size=30), min_size=1, max_size=4),
    per_step=st.integers(1, 7),
    max_tokens=st.integers(1, 40),
    stop=st.sets(st.integers(0, 50), max_size=2),
)
def test_plays_scripts_in_turn_within_the_rules(
    scripts: list[list[int]], per_step: int, max_tokens: int, stop: set[int]
) -> None:
    engine = ReplayEngine([Script(ids) for ids in scripts], tokens_per_step=per_step)
    requests = [request(str(i), max_tokens, stop_token_ids=frozenset(stop)) for i in range(len(scripts) + 1)]
    played = asyncio.run(play(engine, requests))
    for i, one in enumerate(requests):
        ids = scripts[i % len(scripts)]
        expected, reason = ids, "stop"
        at = next((n for n, token in enumerate(ids[:max_tokens]) if token in stop), None)
        if at is not None:
            expected = ids[:at]
        elif len(ids) > max_tokens:
            expected, reason = ids[:max_tokens], "length"
        outputs = played[one.request_id]
        assert [token for output in outputs for token in output.token_ids] == expected
        assert [output.finish_reason for output in outputs][-1] == reason
        assert all(output.finish_reason is None for output in outputs[:-1])
        assert all(len(output.token_ids) <= per_step for output in outputs)


async def test_abort_and_close() -> None:
    engine = ReplayEngine([Script(list(range(100)))], interval=0.001)
    await engine.submit(request("a"))
    await engine.submit(request("b"))
    engine.abort("a")
    engine.abort("nobody")
    steps = engine.steps()
    first = await anext(steps)
    assert [output.request_id for output in first] == ["b"]
    await engine.close()
    rest = [output async for batch in steps for output in batch]
    assert rest[-1].finish_reason == "abort"


async def test_failure_is_played() -> None:
    engine = ReplayEngine([Script([1, 2], finish_reason="error", error="The engine fell over.")])
    played = await play(engine, [request("a")])
    assert played["a"][-1].finish_reason == "error"
    assert played["a"][-1].error == "The engine fell over."


async def test_embeddings_depend_on_the_input_alone() -> None:
    engine = ReplayEngine([Script([1])])
    one, two = await engine.embed([[1, 2], [3]]), await engine.embed([[3], [1, 2]])
    assert (one.vectors[0] == two.vectors[1]).all()
    assert (one.vectors[0] != two.vectors[0]).any()
    assert list(one.prompt_tokens) == [2, 1]


async def test_a_first_token_does_not_wait_for_the_pace_of_others() -> None:
    engine = ReplayEngine([Script(list(range(100)))], interval=3600)
    steps = engine.steps()
    for name in "abc":
        await engine.submit(request(name))
        (output,) = await asyncio.wait_for(anext(steps), 120)
        assert (output.request_id, output.token_ids) == (name, [0])
    await engine.close()
    assert [output.finish_reason async for batch in steps for output in batch] == ["abort"] * 3


async def test_who_comes_between_two_steps_costs_the_same_however_many_play() -> None:
    engine = ReplayEngine([Script(list(range(100)))], interval=3600)
    steps = engine.steps()

    def step() -> None:
        with pytest.raises(StopIteration) as given:  # it never waits: somebody has come
            steps.__anext__().send(None)
        assert [output.token_ids for output in given.value.value] == [[0]]

    costs = []
    for number in range(300):
        await engine.submit(request(str(number)))
        costs.append(calls(step))
    assert costs[299] < costs[2] + 100
