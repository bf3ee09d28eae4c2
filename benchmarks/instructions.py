"""What a streamed event costs, counted in instructions: what no other work on the machine can change.

    python benchmarks/instructions.py [--streams 8] [--tokens 1024] [--rounds 5]

Servers with different options run under valgrind's callgrind, over the replay engine, and are sent streams of two
lengths: the difference in instructions over the difference in events is what an event costs, the whole process counted
and the system's calls left out. What a server does by the clock is counted too, and there is much of it in so slow a
process: of all rounds the lowest count of each length is taken. Told are the options, that figure, and how it stands to
the first's. An answer that is a run (``X-Portico-Resume``) is told last.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from line import ROOT, one_stream, serving

RESUME = "x-portico-resume: 1\r\n"
SERVERS = (  # options, headers of the requests
    ("", ""),
    ("--no-resume", ""),
    ("--resume-grace 30", ""),
    ("--resume-grace 30", RESUME),
)


def counted(pid: int, directory: Path) -> int:
    """The instructions of that process since the last call of this."""
    known = set(directory.iterdir())
    subprocess.run(["callgrind_control", "--dump", str(pid)], check=True, capture_output=True)
    while True:
        for path in set(directory.iterdir()) - known:
            if found := re.search(r"^totals: (\d+)$", path.read_text(), re.MULTILINE):
                return int(found[1])
        time.sleep(0.1)


async def events(url: str, streams: int, tokens: int, headers: str) -> int:
    """How many the streams of that many tokens have together."""
    host, port = url.removeprefix("http://").split(":")
    asked = (one_stream(host, int(port), "chat", headers, max_tokens=tokens) for _ in range(streams))
    return sum(number for number, _ in await asyncio.gather(*asked))


def per_event(options: str, headers: str, given: argparse.Namespace) -> float:
    """Instructions."""
    with tempfile.TemporaryDirectory() as directory:
        under = ("valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={directory}/out")
        with serving(ROOT / "src", options.split(), given, under) as (url, pid):
            subprocess.run(["callgrind_control", "--instr=on", str(pid)], check=True, capture_output=True)
            lowest = {}
            for tokens in (given.tokens // 8, given.tokens) * given.rounds:
                counted(pid, Path(directory))
                told = asyncio.run(events(url, given.streams, tokens, headers))
                count = counted(pid, Path(directory))
                lowest[told] = min(count, lowest.get(told, count))
    (short, few), (long, many) = sorted(lowest.items())
    return (many - few) / (long - short)


def main() -> None:
    """One server after the other."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=8)
    options.add_argument("--tokens", type=int, default=1024)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    given.rate, given.apis = 0.0, ["chat"]
    first = 0.0
    for flags, headers in SERVERS:
        cost = per_event(flags, headers, given)
        first = first or cost
        what = (flags or "default") + (", X-Portico-Resume: 1" if headers else "")
        print(f"{what}: {cost:,.0f} instructions per event, {cost / first:.4f} times the first's", flush=True)


if __name__ == "__main__":
    main()
