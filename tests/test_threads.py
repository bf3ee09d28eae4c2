"""Work away from the event loop: bounded, fair, abandoned with its client, and no reason for a process to stay."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

import pytest

from portico.errors import BadRequestError, OverloadedError
from portico.threads import CALLER, AbandonedError, Threads, checkpoint


class Gate:
    """A work that lasts until it is let go."""

    def __init__(self) -> None:
        self.began, self.open = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        self.open.wait(120)


async def reached(event: threading.Event) -> None:
    assert await asyncio.get_running_loop().run_in_executor(None, event.wait, 120)


def by(caller: str, threads: Threads, function: Callable[[], object]) -> asyncio.Task[object]:
    """``function`` run for ``caller``, queued before this returns to the loop's next turn."""

    async def run() -> object:
        CALLER.set(caller)
        return await threads.run(function)

    return asyncio.ensure_future(run())


async def test_results_and_errors_come_back() -> None:
    threads = Threads("test", 2)
    assert await threads.run(lambda: 6 * 7) == 42

    def refuse() -> None:
        raise BadRequestError("no")

    with pytest.raises(BadRequestError, match="no"):
        await threads.run(refuse)
    assert sorted(await asyncio.gather(*(threads.run(lambda n=n: n) for n in range(100)))) == list(range(100))


async def test_callers_take_turns() -> None:
    """One caller's many works before another's one: the other is second, not last."""
    threads, gate, order = Threads("test", 1), Gate(), list[str]()
    first = by("greedy", threads, gate)
    await reached(gate.began)
    rest = [by("greedy", threads, lambda n=n: order.append(f"greedy {n}")) for n in range(5)]
    await asyncio.sleep(0)
    rest.append(by("modest", threads, lambda: order.append("modest")))
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert order.index("modest") == 1
    assert order[-1] == "greedy 4"


async def test_the_queue_is_bounded_and_the_greediest_gives_way() -> None:
    threads, gate = Threads("test", 1, waiting=3), Gate()
    first = by("greedy", threads, gate)
    await reached(gate.began)
    waiting = [by("greedy", threads, lambda: None) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await by("greedy", threads, lambda: None)
    modest = by("modest", threads, lambda: "done")
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await waiting[-1]
    gate.open.set()
    assert await modest == "done"
    await asyncio.gather(first, *waiting[:-1])


async def test_what_nobody_awaits_is_not_done() -> None:
    threads, gate, done = Threads("test", 1), Gate(), list[str]()
    first = by("", threads, gate)
    await reached(gate.began)
    left = by("", threads, lambda: done.append("left"))
    await asyncio.sleep(0)
    left.cancel()
    kept = by("", threads, lambda: done.append("kept"))
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, kept)
    assert done == ["kept"]


async def test_what_nobody_awaits_any_more_ends_at_its_next_checkpoint() -> None:
    threads, began, ended = Threads("test", 1), threading.Event(), threading.Event()

    def endless() -> None:
        began.set()
        try:
            while True:
                checkpoint()
        except AbandonedError:
            ended.set()
            raise

    task = by("", threads, endless)
    await reached(began)
    task.cancel()
    await reached(ended)
    assert await threads.run(lambda: "free") == "free"


def test_a_checkpoint_elsewhere_is_nothing() -> None:
    checkpoint()


def test_no_thread_keeps_the_process_alive() -> None:
    program = textwrap.dedent("""
        import asyncio, time
        from portico.threads import Threads

        async def main():
            threads = Threads("test", 1)
            asyncio.ensure_future(threads.run(lambda: time.sleep(3600)))
            await asyncio.sleep(0.1)

        asyncio.run(main())
        print("over")
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "over\n"
