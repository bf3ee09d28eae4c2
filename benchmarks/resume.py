"""What an answer loses when its engine is killed under it: N greedy streams of a real model, ``kill -9`` in the middle.

    python benchmarks/resume.py [MODEL] [--streams 32] [--tokens 60] [--kills 1] [--json] [-- OPTIONS OF portico serve]

Told are the streams that failed, those with the very text of an undisturbed round, the longest pause in each, and the
tokens that were computed again. Beside them stands how many texts of a second undisturbed round are equal: streams are
batched as they come, and a kernel rounds differently in another batch, so this can be less than all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.processes import children
from support.server import running_server

CHILD = "portico.engines.llamacpp.child"
SAFETY = 600.0  # seconds
TOPICS = ["rivers", "bread", "winter", "a lighthouse", "bees", "old maps", "music", "the moon"]


@dataclass
class Stream:
    """What one client saw. Times are in seconds."""

    text: str = ""
    finish: str | None = None
    arrivals: list[float] = field(default_factory=list)  # of text

    @property
    def pause(self) -> float:
        return max((after - before for before, after in zip(self.arrivals, self.arrivals[1:], strict=False)), default=0)


async def read(client: httpx.AsyncClient, number: int, tokens: int, stream: Stream) -> None:
    """One client: its answer into ``stream``."""
    asked = f"Tell me about {TOPICS[number % len(TOPICS)]}, in the voice of person number {number}."
    body = {"messages": [{"role": "user", "content": asked}], "temperature": 0, "max_tokens": tokens, "stream": True}
    async with client.stream("POST", "/v1/chat/completions", json={**body, "ignore_eos": True}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                (choice,) = json.loads(line[6:]).get("choices") or [{}]
                stream.finish = choice.get("finish_reason") or stream.finish
                if text := choice.get("delta", {}).get("content"):
                    stream.text += text
                    stream.arrivals.append(time.monotonic())


async def all_streams(url: str, given: argparse.Namespace, kill_in: int | None = None) -> list[Stream]:
    """One round; ``kill_in`` is the process whose engine is killed ``--kills`` times, evenly over the answers."""
    streams = [Stream() for _ in range(given.streams)]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=SAFETY, limits=limits) as client:
        reading = [asyncio.create_task(read(client, number, given.tokens, one)) for number, one in enumerate(streams)]
        for kill in range(given.kills if kill_in is not None else 0):
            due = given.streams * given.tokens * (kill + 1) // (given.kills + 1)
            while sum(len(stream.arrivals) for stream in streams) < due and not all(task.done() for task in reading):
                await asyncio.wait(reading, timeout=0.01)
            for engine in children(kill_in or 0, CHILD):
                os.kill(engine, signal.SIGKILL)
        await asyncio.gather(*reading)
    return streams


def counted(metrics: str, name: str) -> int:
    """A metric of the server; with ``--workers``, of one of them."""
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    return int(float(found[1])) if found else 0


def main() -> None:
    """Three rounds: undisturbed, undisturbed again, killed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", nargs="?", default="smollm2")
    options.add_argument("--streams", type=int, default=32)
    options.add_argument("--tokens", type=int, default=60, help="of each answer")
    options.add_argument("--kills", type=int, default=1)
    options.add_argument("--json", action="store_true")
    own, _, more = " ".join(sys.argv[1:]).partition(" -- ")
    given = options.parse_args(own.split())
    with running_server(given.model, *more.split()) as server:
        first, second = (asyncio.run(all_streams(server.url, given)) for _ in range(2))
        killed = asyncio.run(all_streams(server.url, given, server.process.pid))
        metrics = httpx.get(f"{server.url}/metrics").text
        pauses = sorted(stream.pause for stream in killed)
        found = {
            "streams": len(killed),
            "failed": sum(stream.finish != "length" for stream in killed),
            "equal": sum(one.text == other.text for one, other in zip(first, killed, strict=True)),
            "equal_undisturbed": sum(one.text == other.text for one, other in zip(first, second, strict=True)),
            "resumed": counted(metrics, "portico_answers_resumed_total"),
            "tokens_recomputed": counted(metrics, "portico_tokens_recomputed_total"),
            "pause_median_s": median(pauses),
            "pause_longest_s": pauses[-1],
            "pause_undisturbed_s": max(stream.pause for stream in first),
        }
    if given.json:
        print(json.dumps(found))
        return
    print(f"{found['failed']} of {found['streams']} failed; {found['resumed']} went on")
    print(f"equal to an undisturbed round: {found['equal']}; a second undisturbed round: {found['equal_undisturbed']}")
    print(f"computed again: {found['tokens_recomputed']} tokens")
    print(
        f"longest pause of a stream: median {found['pause_median_s']:.2f} s, at most {found['pause_longest_s']:.2f} s; "
        f"undisturbed at most {found['pause_undisturbed_s']:.2f} s"
    )


main()
