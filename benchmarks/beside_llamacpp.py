"""The embedded engine beside llama.cpp's own server out of the same wheel, and beside itself with other ways to wait:
``python benchmarks/engine_llamacpp.py --beside``.

All sides hold the same file at once, with as many threads and cells, and are asked the same prompts in turns, so that
what else the machine does meets all of them. Figures are medians of the rounds. With ``busy`` loops beside them the
other side is the engine that always sleeps (``OMP_WAIT_POLICY=passive``), for llama.cpp's server nearly stands still.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

from portico.engines.llamacpp import LlamaCppEngine, process
from portico.events import EngineRequest, SamplingParams

STREAMS: Final = 16
CELLS: Final = 16 * 1024
ASLEEP: Final = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}

RANDOM = random.Random(0)

Prompts = list[list[int]]


def resident_bytes(pid: int | None) -> int:
    """Resident memory of a process; 0 where /proc is missing."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def settings(tokens: int) -> dict[str, tuple[Prompts, int]]:
    """By name: the prompts that are asked at once, and the tokens of each answer. The last is the one before again."""

    def prompts(streams: int, length: int) -> Prompts:
        return [[RANDOM.randrange(1000, 30000) for _ in range(length)] for _ in range(streams)]

    long = prompts(1, 480)
    decoding = {f"{n} streams, tokens/s": (prompts(n, 8), tokens) for n in (1, 4, STREAMS)}
    return {**decoding, "prompt of 480, tokens/s": (long, 1), "the same again, 1/s": (long, 1)}


class Ours:
    """The embedded engine, with ``environment`` over its own."""

    def __init__(self, path: Path, threads: int, environment: dict[str, str]) -> None:
        self._environment = environment
        self._engine = LlamaCppEngine(
            path, model_id=path.stem, threads=threads, max_sequences=STREAMS, context_length=1024, cache_tokens=CELLS
        )

    async def start(self) -> None:
        with mock.patch.dict(process._ENVIRONMENT, self._environment):
            await self._engine.start()

    async def ask(self, prompts: Prompts, tokens: int) -> float:
        """Seconds until all are answered."""
        started, waiting = time.perf_counter(), set()
        for prompt in prompts:
            sampling = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
            request = EngineRequest(f"{RANDOM.random()}", prompt, sampling)
            waiting.add(request.request_id)
            await self._engine.submit(request)
        async for outputs in self._engine.steps():
            waiting -= {output.request_id for output in outputs if output.finish_reason is not None}
            if not waiting:
                break
        return time.perf_counter() - started

    @property
    def pid(self) -> int | None:
        return self._engine.pid

    async def close(self) -> None:
        await self._engine.close()


class Theirs:
    """llama.cpp's own server, in a process of its own that calls it without HTTP."""

    def __init__(self, path: Path, threads: int) -> None:
        self._arguments = (__file__, str(path), str(threads))

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def ask(self, prompts: Prompts, tokens: int) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([prompts, tokens]).encode() + b"\n")
        return float(await self._process.stdout.readline())

    @property
    def pid(self) -> int | None:
        return self._process.pid

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


def serve_llamacpps_own(path: str, threads: int) -> None:
    """For each line of standard input (prompts and new tokens) the seconds until all are answered."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_parallel, params.n_ctx, params.port = path, STREAMS, CELLS, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    time.sleep(1)  # it hangs when it is asked while it starts

    def one(prompt: list[int], tokens: int) -> None:
        asked = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        assert server.handle_completions(asked)["usage"]["completion_tokens"] == tokens

    with ThreadPoolExecutor(STREAMS) as pool:
        for line in sys.stdin:
            prompts, tokens = json.loads(line)
            started = time.perf_counter()
            for _ in pool.map(one, prompts, [tokens] * len(prompts)):
                pass
            sys.stdout.write(f"{time.perf_counter() - started}\n")
            sys.stdout.flush()
    os._exit(0)  # its own end may hang


@contextmanager
def loops(number: int) -> Iterator[None]:
    """Busy processes beside."""
    import subprocess

    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


async def beside(
    path: Path, threads: int, rounds: int, tokens: int, busy: int, others: list[dict[str, str]]
) -> dict[str, Any]:
    """Our rate for each of ``settings``, and beside it each other side's with the ratio (ours over theirs)."""
    sides: dict[str, Ours | Theirs] = {"ours": Ours(path, threads, {})}
    if busy:
        sides["asleep"] = Ours(path, threads, ASLEEP)
    else:
        sides["llama.cpp's server"] = Theirs(path, threads)
    for environment in others:
        name = " ".join(f"{key}={value}" for key, value in environment.items())
        sides[name] = Ours(path, threads, environment)
    rates: dict[str, dict[str, list[float]]] = {}
    for side in sides.values():
        await side.start()
    with loops(busy):
        for number in range(rounds + 1):  # the first warms up
            for name, (prompts, new) in settings(tokens if number else 4).items():
                work = 1 if "again" in name else len(prompts[0]) if new == 1 else len(prompts) * new
                order = list(sides.items())
                for side_name, side in order if number % 2 else order[::-1]:
                    speed = work / await side.ask(prompts, new)
                    if number:
                        rates.setdefault(name, {}).setdefault(side_name, []).append(speed)
    result: dict[str, Any] = {
        name: _row({side: statistics.median(found) for side, found in row.items()}) for name, row in rates.items()
    }
    result["memory, MB"] = _row({name: resident_bytes(side.pid) / 1e6 for name, side in sides.items()})
    for side in sides.values():
        await side.close()
    return result


def _row(values: dict[str, float]) -> dict[str, float]:
    ours, others = values["ours"], {name: value for name, value in values.items() if name != "ours"}
    row = {"ours": round(ours, 1)}
    for name, value in others.items():
        row |= {name: round(value, 1), f"ratio to {name}": round(ours / value, 2)}
    return row


if __name__ == "__main__":
    serve_llamacpps_own(sys.argv[1], int(sys.argv[2]))
