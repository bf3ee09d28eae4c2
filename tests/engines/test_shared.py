"""A hub and the engines that share it: equal to the engine itself, whoever goes or fails."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from portico.engines.replay import ReplayEngine, Script
from portico.engines.shared import Hub, SharedEngine
from portico.errors import ContextLengthError, EngineDeadError
from portico.events import EngineOutput, EngineRequest, SamplingParams, TokenLogprob
from support.wait import eventually


@asynccontextmanager
async def sharing(engine: ReplayEngine, count: int = 2) -> AsyncIterator[tuple[Hub, list[SharedEngine]]]:
    await engine.start()
    hub = Hub(engine)
    members = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        await hub.join(ours)
        member = SharedEngine(theirs, leader=os.getpid(), silence=1000)
        await member.start()
        members.append(member)
    try:
        yield hub, members
    finally:
        for member in members:
            await member.close()
        await hub.close()
        await engine.close()


def asking(request_id: str, **rules: int) -> EngineRequest:
    return EngineRequest(request_id, [1, 2, 3], SamplingParams(**{"max_tokens": 1000, **rules}))


async def finished(engine: SharedEngine, *request_ids: str) -> dict[str, list[EngineOutput]]:
    """Every output of these requests, to their ends."""
    found: dict[str, list[EngineOutput]] = {request_id: [] for request_id in request_ids}
    waiting = set(request_ids)

    async def gather() -> None:
        async for step in engine.steps():
            for output in step:
                found[output.request_id].append(output)
                if output.finish_reason is not None:
                    waiting.discard(output.request_id)
            if not waiting:
                return

    await asyncio.wait_for(gather(), 120)
    return found


async def test_each_gets_its_own_outputs_under_its_own_ids() -> None:
    engine = ReplayEngine(choose=lambda request: Script([request.sampling.seed or 0] * 50), tokens_per_step=3)
    async with sharing(engine) as (_, (one, other)):
        assert one.info == other.info == engine.info
        assert one.healthy
        for member, seed in ((one, 10), (other, 20)):
            for n in range(5):
                await member.submit(asking(f"r{n}", seed=seed + n, logprobs=1))
        for member, seed in ((one, 10), (other, 20)):
            for n, outputs in enumerate((await finished(member, *(f"r{n}" for n in range(5)))).values()):
                assert [token for output in outputs for token in output.token_ids] == [seed + n] * 50
                assert isinstance(outputs[0].logprobs[0], TokenLogprob)  # type: ignore[index]
                assert outputs[-1].finish_reason == "stop"


async def test_refusals_keep_their_kind() -> None:
    async with sharing(ReplayEngine([Script([1])])) as (_, (one, _other)):
        long = EngineRequest("r", [1] * ((1 << 20) + 1), SamplingParams(max_tokens=1))
        with pytest.raises(ContextLengthError) as caught:
            await one.submit(long)
        assert caught.value.code == "context_length_exceeded"
        await one.submit(asking("r"))  # the id is free again


async def test_embeddings_come_as_they_are() -> None:
    engine = ReplayEngine([Script([1])])
    async with sharing(engine) as (_, (one, _other)):
        mine, theirs = await one.embed([[1, 2], [3]]), await engine.embed([[1, 2], [3]])
        assert np.array_equal(mine.vectors, theirs.vectors)
        assert list(mine.prompt_tokens) == [2, 1]
        assert not await one.flush_cache()


async def test_aborts_and_departures_reach_the_engine() -> None:
    engine = ReplayEngine([Script([1] * 5000)], interval=0.01)
    async with sharing(engine) as (_, (one, other)):
        await one.submit(asking("a"))
        await one.submit(asking("b"))
        await other.submit(asking("a"))
        one.abort("a")
        await eventually(lambda: len(engine._playing) == 2)
        await one.close()
        await eventually(lambda: len(engine._playing) == 1)
        assert [output.finish_reason async for step in one.steps() for output in step][-1] == "abort"


async def test_health_turns_and_the_end_of_the_hub_is_told() -> None:
    engine = ReplayEngine([Script([1] * 5000)], interval=0.01)
    async with sharing(engine) as (hub, (one, _other)):
        for healthy in (False, True):
            engine.healthy = healthy
            await eventually(lambda healthy=healthy: one.healthy == healthy)
        await one.submit(asking("a"))
        await hub.close()
        assert (await finished(one, "a"))["a"][-1].finish_reason == "lost"
        assert not one.healthy
        with pytest.raises(EngineDeadError):
            await one.submit(asking("b"))


@pytest.mark.parametrize("how", [None, "was ended by SIGKILL"])
async def test_how_its_process_ended_is_told_or_not_asked_any_more(how: str | None) -> None:
    """The process's end may never be told: whoever would tell it is cancelled when the server ends."""
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    hub = Hub(ReplayEngine([Script([1])]))
    ours, theirs = socket.socketpair()
    await hub.join(theirs)
    gone: asyncio.Future[str] = loop.create_future()
    one = SharedEngine(ours, leader=os.getpid(), silence=120, gone=gone)
    await one.start()
    await hub.close()
    await eventually(lambda: not one.healthy)
    if how is None:
        gone.cancel()
    else:
        gone.set_result(how)
    await eventually(lambda: bool(one.trouble))
    assert one.trouble == (how or "it is closed")
    assert not complaints
    await one.close()
