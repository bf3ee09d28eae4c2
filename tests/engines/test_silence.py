"""A hung process is told from a busy one: as a law of what is seen, then with real processes that are stopped."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.engines import EngineInfo
from portico.engines.shared import SharedEngine, wire
from portico.engines.silence import BUSY, Silence, processor_seconds
from portico.errors import EngineDeadError
from portico.events import EngineOutput, EngineRequest, SamplingParams
from support.wait import eventually

# -- the rule ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=99).map(lambda words: words + [False] * 7))
def test_who_is_silent_and_idle_for_the_limit_is_hung_and_nobody_else(words: list[bool]) -> None:
    """A look a second, a limit of five: hung at the fifth silent look in a row, never before."""
    silence, silent = Silence(5), 0
    for heard in words:
        silent = 0 if heard else silent + 1
        assert silence.look(1, heard, 0.0) == (silent >= 5)


@given(st.lists(st.floats(0.01, 2), min_size=1, max_size=99))
def test_who_computes_without_a_word_gets_longer(work: list[float]) -> None:
    silence, used = Silence(5), 0.0
    for step in work:
        used += step
        assert not silence.look(1, False, used)
    assert not Silence(5).look(6, False, None), "unknown is taken for work"


def test_nobody_computes_for_ever() -> None:
    silence = Silence(5)
    looks = [silence.look(1, False, float(second)) for second in range(1, 5 * BUSY + 1)]
    assert looks.index(True) == 5 * BUSY - 1


def test_time_in_which_the_looking_process_was_stopped_does_not_count() -> None:
    """It is told what it slept by plan, however late it wakes."""
    silence = Silence(5)
    assert not any(silence.look(1, False, 0.0) for _ in range(4))
    assert silence.look(1, False, 0.0)


# -- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def process(code: str, *descriptors: int) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", code, *map(str, descriptors)], pass_fds=descriptors)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


async def test_processor_time_grows_with_work_and_is_nothing_when_stopped() -> None:
    with process("while True: pass") as child:
        await eventually(lambda: (processor_seconds(child.pid) or 0) > 0.1)
        child.send_signal(signal.SIGSTOP)
        await eventually(lambda: processor_seconds(child.pid) == 0.0)
    assert processor_seconds(child.pid) is None


INFO = EngineInfo("m", context_length=10, vocab_size=10, capabilities=frozenset({"generate"}))


@asynccontextmanager
async def over(leader: int, limit: float) -> AsyncIterator[tuple[SharedEngine, list[str]]]:
    """An engine over a hub that takes requests and gives no sign of life."""
    ours, theirs = socket.socketpair()
    reasons: list[str] = []
    engine = SharedEngine(ours, leader=leader, silence=limit, hung=reasons.append)
    theirs.send(wire.encode(wire.Health(True)) + wire.encode(wire.facts(INFO, False)))
    await engine.start()
    try:
        yield engine, reasons
    finally:
        await engine.close()
        theirs.close()


async def test_a_busy_process_is_left_alone_and_a_stopped_one_is_not() -> None:
    with process("while True: pass") as child:
        async with over(child.pid, 1.0) as (engine, reasons):
            begun = processor_seconds(child.pid) or 0.0
            await eventually(lambda: (processor_seconds(child.pid) or 0.0) > begun + 1.5)
            assert engine.healthy
            assert not reasons
            child.send_signal(signal.SIGSTOP)
            await eventually(lambda: bool(reasons))
            assert not engine.healthy


HUB = """
import asyncio, socket, sys
from portico.engines.replay import ReplayEngine, Script
from portico.engines.shared import Hub

async def main():
    engine = ReplayEngine([Script(list(range(1, 100000)))], interval=0.01)
    hub = Hub(engine)
    await hub.join(socket.socket(fileno=int(sys.argv[1])))
    await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_a_hub_that_is_stopped_is_taken_for_dead_until_it_speaks_again() -> None:
    ours, theirs = socket.socketpair()
    with theirs, process(HUB, theirs.fileno()) as hub:
        engine = SharedEngine(ours, leader=hub.pid, silence=1.0)
        await engine.start()
        outputs: list[EngineOutput] = []

        async def read() -> None:
            async for step in engine.steps():
                outputs.extend(step)

        reading = asyncio.create_task(read())
        await engine.submit(EngineRequest("r", [1], SamplingParams(max_tokens=100000)))
        await eventually(lambda: len(outputs) > 3)
        hub.send_signal(signal.SIGSTOP)
        await eventually(lambda: not engine.healthy)
        await eventually(lambda: outputs[-1].finish_reason == "lost")
        assert "neither said nor done anything for 1 seconds" in (outputs[-1].error or "")
        with pytest.raises(EngineDeadError) as caught:
            await engine.submit(EngineRequest("s", [1], SamplingParams(max_tokens=1)))
        assert caught.value.retry_after
        hub.send_signal(signal.SIGCONT)
        await eventually(lambda: engine.healthy)
        count = len(outputs)
        await engine.submit(EngineRequest("r", [1], SamplingParams(max_tokens=2)))
        await eventually(lambda: outputs[-1].finish_reason == "length")
        assert [token for output in outputs[count:] for token in output.token_ids] == [1, 2], "nothing of its past"
        await engine.close()
        await reading
