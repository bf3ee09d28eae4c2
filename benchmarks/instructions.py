"""What outliving costs a streamed event, in instructions: what no other work on the machine can change.

    python benchmarks/instructions.py [--streams 8] [--tokens 640]

The line's own work, from the engine's step to the connection, runs under valgrind's callgrind, for answers of a few
tokens and for long ones: the difference in instructions over the difference in events is what an event costs. Each step
is written, which is the dearest case. Once in fifty steps comes what the line does for all its answers every second.
All kinds of answers take turns in one process, twice.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

KINDS = {  # of answers, by what keeps them
    "default": "they outlive their engine",
    "--no-resume": "they do not",
    "X-Portico-Resume": "they outlive their engine and their connection: runs",
}
PLAIN = {"logprobs": None, "top_logprobs": None, "n": 1, "return_token_ids": None, "stream_options": None}
STEPS_A_SECOND = 50
FEW = 64  # tokens


class Connection:
    """Takes everything at once, for ever."""

    async def start_stream(self, media_type: bytes) -> None: ...

    async def send(self, message: dict[str, Any]) -> None: ...

    async def disconnected(self) -> None:
        await asyncio.Event().wait()


async def inside(kind: str, streams: int, tokens: int) -> None:
    """So many answers of that kind and length, at the same time."""
    from portico.engines.replay import ReplayEngine, Script
    from portico.events import EngineOutput
    from portico.server.line import line as step_loop
    from portico.server.line.flight import Flight
    from portico.server.line.line import Line
    from portico.server.line.runs import Runs
    from portico.server.line.sinks import StreamSink
    from portico.server.observe.metrics import Metrics
    from support.generation import tiny_model, tiny_tokenizer
    from support.mortal import encoded

    step_loop.WRITE_SECONDS = -1.0
    line, runs = Line(ReplayEngine([Script([])]), Metrics(), resume=kind != "--no-resume"), Runs(30.0)
    connection: Any = Connection()
    readers = []
    for _ in range(streams):
        generations, encoder = encoded("chat", tiny_model(), [], **PLAIN)
        if kind == "X-Portico-Resume":
            sink: Any = runs.begin(encoder, "")
            readers.append(asyncio.create_task(sink.read(connection)))
            await asyncio.sleep(0)
        else:
            sink = StreamSink(encoder)
            await sink.open(connection)
        await line.admit(Flight(generations, sink))
    ids = tiny_tokenizer().encode("The quick brown fox jumps over the lazy dog. ")
    for step in range(tokens):
        line._step([EngineOutput(request_id, (ids[step % len(ids)],)) for request_id in line._routes])
        if step % STEPS_A_SECOND == 0:
            line._resuming.bound(line._routes.values())
    for reader in readers:
        reader.cancel()


def instructions(directory: Path) -> int:
    """Those of this process since this was last asked."""
    known = set(directory.iterdir())
    subprocess.run(["callgrind_control", "--dump", str(os.getpid())], check=True, capture_output=True)
    (dump,) = set(directory.iterdir()) - known
    (total,) = re.findall(r"^totals: (\d+)$", dump.read_text(), re.MULTILINE)
    return int(total)


def measure(directory: Path, streams: int, tokens: int) -> None:
    """In the process that is counted."""
    first = 0.0
    asyncio.run(inside("default", 1, FEW))  # what is done once only
    subprocess.run(["callgrind_control", "--instr=on", str(os.getpid())], check=True, capture_output=True)
    for kind, what in [*KINDS.items()] * 2:
        found = []
        for length in (FEW, tokens):
            instructions(directory)
            asyncio.run(inside(kind, streams, length))
            found.append(instructions(directory))
        cost = (found[1] - found[0]) / (tokens - FEW) / streams
        first = first or cost
        print(f"{kind} ({what}): {cost:,.0f} instructions per event, {cost / first:.4f} times the first's", flush=True)


def main() -> None:
    """Start the process that is counted."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=8)
    options.add_argument("--tokens", type=int, default=640)
    options.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.inside:
        measure(given.inside, given.streams, given.tokens)
        return
    with tempfile.TemporaryDirectory() as directory:
        under = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={directory}/out"]
        command = [*under, sys.executable, *sys.argv, f"--inside={directory}"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})


main()
