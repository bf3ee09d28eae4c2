"""``portico.v1.Engine`` against clients that are no front door of this version."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
import pytest

from portico.engines import EmbeddingBatch
from portico.engines.shared import outgoing, wire
from portico.engines.shared.wire import VERSION, VERSION_NAME
from portico.events import EngineRequest, SamplingParams
from portico.protos.engine_pb2 import Frames
from portico.protos.engine_pb2_grpc import EngineStub
from support.grpc import hosting
from support.wait import eventually

THIS = ((VERSION_NAME, str(VERSION)),)


async def ended(call: Any) -> tuple[str, str]:
    """How, when all that was said has been read."""
    async with asyncio.timeout(120):
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
    return "OK", ""


@pytest.mark.parametrize(
    ("metadata", "frames", "code", "word"),
    [
        ((), None, "FAILED_PRECONDITION", "version"),
        (((VERSION_NAME, "99"),), None, "FAILED_PRECONDITION", "99"),
        (THIS, (3).to_bytes(4, "little") + b"\xc1\xc1\xc1", "INVALID_ARGUMENT", "frames"),
        (THIS, wire.encode(wire.Health(True)), "INVALID_ARGUMENT", "frames"),
    ],
)
async def test_who_does_not_speak_as_it_must_is_told(metadata: Any, frames: bytes | None, code: str, word: str) -> None:
    async with hosting({"a": "x"}) as up, grpc.aio.insecure_channel(up.target) as channel:
        call = EngineStub(channel).Steps(metadata=metadata)  # type: ignore[no-untyped-call]
        if frames is not None:
            await call.write(Frames(data=frames))
        told, details = await ended(call)
        assert told == code
        assert word in details
        assert not up.hub._members


async def test_who_goes_takes_its_requests_along_and_no_others() -> None:
    async with hosting({"a": "x" * 50_000}, interval=0.01) as up, grpc.aio.insecure_channel(up.target) as channel:
        calls = [EngineStub(channel).Steps(metadata=THIS) for _ in range(2)]  # type: ignore[no-untyped-call]
        for call in calls:
            request = EngineRequest("", [1], SamplingParams(max_tokens=4000))
            await call.write(Frames(data=wire.encode(wire.Submit(1, request))))
        await eventually(lambda: up.hub.running == 2)
        calls[0].cancel()
        await eventually(lambda: len(up.engine._playing) == 1)
        await calls[1].done_writing()
        await eventually(lambda: not up.engine._playing)
        assert await ended(calls[1]) == ("OK", "")


async def test_who_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is bounded, and its requests end."""
    monkeypatch.setattr(outgoing, "MOST_WAITING", 1 << 16)
    async with hosting({"a": "x" * 50_000}) as up, grpc.aio.insecure_channel(up.target) as channel:
        call = EngineStub(channel).Steps(metadata=THIS)  # type: ignore[no-untyped-call]

        async def embed(inputs: object) -> EmbeddingBatch:
            return EmbeddingBatch(np.zeros((1, 1 << 18), dtype=np.float32), [1])

        monkeypatch.setattr(up.engine, "embed", embed)
        with suppress(grpc.aio.AioRpcError):  # the end may come before the last of them
            for number in range(1, 41):  # each is answered with a megabyte, which nobody takes
                await call.write(Frames(data=wire.encode(wire.Embed(number, [[1]]))))
        await eventually(lambda: not up.hub._members)
        assert (await ended(call))[0] != "OK"
