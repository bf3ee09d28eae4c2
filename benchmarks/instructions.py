"""What outliving costs a streamed event, in instructions: what no other work on the machine can change.

    python benchmarks/instructions.py [--streams 8] [--tokens 1024]

The line's own work, from the engine's step to the connection, runs under valgrind's callgrind, once for answers of a
few tokens and once for long ones: the difference in instructions over the difference in events is what an event costs.
Each step is written, which is the dearest case. Once in fifty steps comes what the line does for all its answers every
second.
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


def instructions(kind: str, streams: int, tokens: int) -> int:
    """Those of a process that serves them and does nothing else."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        command = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable, __file__]
        inner = [f"--inside={kind}", "--streams", str(streams), "--tokens", str(tokens)]
        subprocess.run([*command, *inner], check=True, env={**os.environ, "PYTHONHASHSEED": "0"})
        (total,) = re.findall(r"^totals: (\d+)$", out.read_text(), re.MULTILINE)
    return int(total)


def main() -> None:
    """One kind after the other."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=8)
    options.add_argument("--tokens", type=int, default=1024)
    options.add_argument("--inside", choices=KINDS, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.inside:
        asyncio.run(inside(given.inside, given.streams, given.tokens))
        return
    first = 0.0
    for kind, what in KINDS.items():
        many, few = (instructions(kind, given.streams, tokens) for tokens in (given.tokens, FEW))
        cost = (many - few) / (given.tokens - FEW) / given.streams
        first = first or cost
        print(f"{kind} ({what}): {cost:,.0f} instructions per event, {cost / first:.4f} times the first's", flush=True)


main()
