"""How many answers can be open at once: what a front door takes for each, and what it does meanwhile.

    python benchmarks/open_streams.py [--streams 1000] [--tokens 30] [--rate 1] [--json]
    python benchmarks/open_streams.py --streams 10000 --ramp 500

One front process over the replay engine, ``rate`` tokens a second and stream. As many clients as streams ask, ``ramp``
of them a second, for answers of ``tokens`` tokens, and more that pass while the others begin. Told are how many were
open when the last began, how many were refused, memory per stream (resident, at the most, less that before), processor
time, and the gaps between two reads of a client. Both sides need an open file per stream (``ulimit -n``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
from collections.abc import Sequence
from typing import Any

from beside_llamacpp import resident_bytes
from line import ROOT, serving

from portico.commands.bench.asking import APIS, Asker, Outcome, body_of
from portico.commands.bench.figures import summary
from portico.commands.bench.running import run


async def measure(url: str, pid: int, given: argparse.Namespace) -> dict[str, Any]:
    """What all streams at once come to."""
    body = body_of("chat", "smollm2", 16, 100_000, False)
    long = body_of("chat", "smollm2", 2000, 2, False)  # has made what is made once, the fast tokenizer above all
    await run([Asker(url, APIS["chat"], long, None)], 2, 0.0, url)
    await asyncio.sleep(given.settle)
    before, most = resident_bytes(pid), 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, resident_bytes(pid))
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    askers = [Asker(url, APIS["chat"], body, None) for _ in range(given.streams)]
    outcomes, seconds, cpu = await run(askers, given.streams, given.ramp, url)
    watching.cancel()
    return {
        "streams": given.streams,
        "open_at_once": _overlap(outcomes, given),
        "resident_mb_before": round(before / 1e6, 1),
        "resident_mb_most": round(most / 1e6, 1),
        "kb_per_stream": round((most - before) / given.streams / 1e3, 1),
        "share_of_a_core": round((cpu or 0.0) / seconds, 3),
        **summary(outcomes, seconds, cpu),
    }


def _overlap(outcomes: Sequence[Outcome], given: argparse.Namespace) -> int:
    """How many were open when the last had begun."""
    last = given.streams / given.ramp
    good = [one for one in outcomes if not one.error]
    return sum(number / given.ramp + one.whole > last for number, one in enumerate(good))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=1000)
    options.add_argument("--tokens", type=int, default=30)
    options.add_argument("--rate", type=float, default=1.0, help="tokens a second and stream")
    options.add_argument("--ramp", type=float, default=500.0, help="streams begun in a second")
    options.add_argument("--settle", type=float, default=5.0, help="seconds after the first requests")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    given.apis = ["chat"]
    given.tokens += int(given.streams / given.ramp * given.rate)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with serving(ROOT / "src", ("--max-in-flight", str(given.streams + 16), "--store", "none"), given) as (url, pid):
        found = asyncio.run(measure(url, pid, given))
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
