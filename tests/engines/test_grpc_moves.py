"""Answers go on at another gRPC host: when theirs is gone, and as soon as theirs says that it is leaving."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from portico.engines.grpc import GrpcEngine
from portico.server.line.flight import Flight
from portico.server.line.line import Line
from portico.server.observe.metrics import Metrics
from support.generation import tiny_model
from support.grpc import Calling, Hosting, calling, hosting
from support.mortal import Collecting, encoded
from support.wait import eventually

SCHEMES: dict[Any, str] = {calling: "grpc", hosting: "portico"}
ANSWER = "It begins well, goes on for a while, and comes to an end. 🦜 " * 4


@pytest.mark.parametrize("up", [calling, hosting])
@pytest.mark.parametrize("leaving", [False, True])
async def test_the_answer_moves(leaving: bool, up: Any) -> None:
    async with up({"a": ANSWER}, interval=0.02) as one, up({"a": ANSWER}, interval=0.02) as other:
        engine = GrpcEngine(f"{SCHEMES[up]}://{one.target},{other.target}")
        line = Line(engine, Metrics(), keep_alive=0)
        await line.start()
        await eventually(lambda: all(host.healthy for host in engine._hosts))
        generations, encoder = encoded("chat", tiny_model(), (), n=1, logprobs=False, top_logprobs=None)
        sink = Collecting(encoder)
        await line.admit(Flight(generations, sink))
        await eventually(lambda: generations[0].choices[0].completion_tokens > 20)
        first, second = (one, other) if one.requests else (other, one)
        assert not second.requests
        if leaving:
            first.drain()
        else:
            await first.server._server.stop(0)
        await asyncio.wait_for(sink.done.wait(), 120)
        assert sink.error is None
        assert generations[0].usage.completion_tokens == len(ANSWER.encode())
        (taken_up,) = second.requests
        assert bytes(taken_up.generated) != b""
        if leaving:
            assert not _playing(first), "the host that is leaving is free"
        await line.close()


@pytest.mark.parametrize("up", [calling, hosting])
async def test_embeddings_move(up: Any) -> None:
    """The host that is gone in the middle of them is not asked again, the other is."""
    able = frozenset({"embed"})
    async with up({"a": ""}, capabilities=able) as one, up({"a": ""}, capabilities=able) as other:
        line = Line(GrpcEngine(f"{SCHEMES[up]}://{one.target},{other.target}"), Metrics(), keep_alive=0)
        await line.start()
        undisturbed = await line.embed([[1, 2], [3]])
        asked: list[Calling | Hosting] = []

        def answering(host: Calling | Hosting) -> Any:
            embed = host.engine.embed

            async def computed(inputs: Any) -> Any:
                asked.append(host)
                if len({id(host) for host in asked}) == 1:
                    # A task of its own: this call ends with the server, and a cancelled stop spoils grpc.aio's next.
                    await asyncio.shield(asyncio.create_task(host.server._server.stop(0)))
                return await embed(inputs)

            return computed

        for host in (one, other):
            host.engine.embed = answering(host)  # type: ignore[method-assign]
        again = await line.embed([[1, 2], [3]])
        assert {id(host) for host in asked} == {id(one), id(other)}
        assert again.vectors.tolist() == undisturbed.vectors.tolist()
        await line.close()


def _playing(up: Calling | Hosting) -> bool:
    return bool(up.engine._playing)
