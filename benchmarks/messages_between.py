"""What a token costs between a front door and an engine in another process.

    python benchmarks/messages_between.py [STREAMS] [TOKENS] [TOKENS_PER_SECOND]

A child process has a replay engine that gives every stream a token per step; this process drives it in three ways:

    grpc      ``--engine grpc://``: vLLM's protocol, a stream per request and a message per token
    portico   ``--engine portico://``: what ``portico engine`` serves, a stream for all and a message per step
    shared    ``--workers``: the same frames over a socket of this machine

Printed is processor time per token on each side, system calls included. The replay engine's own share is in the serving
side's figure of each.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import uvloop

from portico.engines import Engine
from portico.engines.grpc import GrpcEngine
from portico.engines.replay import ReplayEngine, Script
from portico.engines.shared import Hub, SharedEngine
from portico.events import EngineRequest, SamplingParams


def main() -> None:
    """Run both, print both."""
    if sys.argv[1:2] == ["--serve"]:
        uvloop.run(_serve(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
        return
    streams, tokens, rate = (int(given) for given in (sys.argv[1:] + ["64", "200", "50"][len(sys.argv) - 1 :])[:3])
    for kind in ("grpc", "portico", "shared"):
        ours, theirs = uvloop.run(_measure(kind, streams, tokens, rate))
        total = streams * tokens
        pace = f"{rate} tokens/s each" if rate else "unpaced"
        print(
            f"{kind:7} {streams} streams, {tokens} tokens, {pace}: "
            f"{ours / total * 1e6:.1f} us here, {theirs / total * 1e6:.1f} us there, per token"
        )


async def _serve(kind: str, tokens: int, rate: float, fd: int) -> None:
    """The child: serve until standard input ends, then say how much processor time the serving took."""
    script = Script([97] * tokens)
    if kind != "shared":
        from support.grpc import calling, hosting

        up: Any = {"grpc": calling, "portico": hosting}[kind]
        async with up({"a": script}, interval=1 / rate if rate else 0, tokens_per_step=1) as it:
            await _report(it.port)
    else:
        engine = ReplayEngine([script], interval=1 / rate if rate else 0)
        hub = Hub(engine)
        await hub.join(socket.socket(fileno=fd))
        await _report(0)
        await hub.close()


async def _report(port: int) -> None:
    loop = asyncio.get_running_loop()
    print(port, flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    started = time.process_time()
    await loop.run_in_executor(None, sys.stdin.readline)
    print(time.process_time() - started, flush=True)


async def _measure(kind: str, streams: int, tokens: int, rate: float) -> tuple[float, float]:
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(  # noqa: ASYNC220  (starting it is not measured)
        [sys.executable, __file__, "--serve", kind, str(tokens), str(rate), str(theirs.fileno())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[theirs.fileno()],
        text=True,
    )
    theirs.close()
    assert child.stdin is not None
    assert child.stdout is not None
    port = int(child.stdout.readline())
    engine: Engine = (
        SharedEngine(ours, leader=child.pid, silence=600)
        if kind == "shared"
        else GrpcEngine(f"{kind}://127.0.0.1:{port}")
    )
    await engine.start()
    child.stdin.write("\n")
    child.stdin.flush()
    started = time.process_time()
    received = await _drive(engine, streams, tokens)
    spent = time.process_time() - started
    child.stdin.write("\n")
    child.stdin.flush()
    there = float(child.stdout.readline())
    await engine.close()
    child.stdin.close()
    child.wait()
    assert received == streams * tokens
    return spent, there


async def _drive(engine: Engine, streams: int, tokens: int) -> int:
    sampling = SamplingParams(max_tokens=tokens)
    requests: Sequence[EngineRequest] = [EngineRequest(f"r{n}", [97, 97], sampling) for n in range(streams)]
    await asyncio.gather(*(engine.submit(request) for request in requests))
    received, finished = 0, 0
    async for step in engine.steps():
        for output in step:
            received += len(output.token_ids)
            finished += output.finish_reason is not None
        if finished == streams:
            break
    return received


if __name__ == "__main__":
    main()
