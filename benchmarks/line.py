"""CPU per streamed event, end to end: a real server over the replay engine, a client that only reads bytes.

    python benchmarks/line.py [--streams 64] [--tokens 256] [--rate 50] [--json]
    python benchmarks/line.py --against REVISION --runs 20
    python benchmarks/line.py --against-options=--no-resume --runs 20

``--rate 0`` is a burst. The figure is CPU time of the server's threads, user and system, over the number of events
sent. With ``--against`` another revision of this repository is measured beside it, with ``--against-options`` a server
with other options: both run, and take turns. Told are both medians, the median of the turns' ratios, and the ratio of
the lower quartiles, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

BODY = {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 100000}
ROOT = Path(__file__).resolve().parent.parent


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of the process; the times of a whole process come in hundredths only."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


async def one_stream(host: str, port: int) -> tuple[int, int]:
    """Returns (events, reads)."""
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    body = json.dumps(BODY).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    events = reads = 0
    tail = b""
    while b"[DONE]" not in tail:
        data = await reader.read(1 << 16)
        if not data:
            raise RuntimeError("stream ended early")
        reads += 1
        events += data.count(b"data: {")
        tail = tail[-16:] + data
    writer.close()
    return events, reads


async def measure(url: str, pid: int, streams: int) -> dict[str, float]:
    host, port = url.removeprefix("http://").split(":")
    await asyncio.gather(*(one_stream(host, int(port)) for _ in range(2)))  # warm
    before, started = cpu_seconds(pid), time.perf_counter()
    results = await asyncio.gather(*(one_stream(host, int(port)) for _ in range(streams)))
    wall, cpu = time.perf_counter() - started, cpu_seconds(pid) - before
    events = sum(e for e, _ in results)
    return {
        "streams": streams,
        "events": events,
        "events_per_read": events / sum(r for _, r in results),
        "wall_s": wall,
        "cpu_s": cpu,
        "us_per_event": cpu / events * 1e6,
    }


@contextmanager
def serving(source: Path, options: Sequence[str], given: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """The URL and the process of a server that runs what lies in ``source``."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "replay.jsonl"
        script.write_text(json.dumps({"token_ids": [(i % 5000) + 1000 for i in range(given.tokens)]}) + "\n")
        command = [sys.executable, "-m", "portico", "serve", "--engine", f"replay:{script}", "--port", "0"]
        command += ["--replay-rate", str(given.rate), "--log-level", "warning", "--max-in-flight", "4096", *options]
        environment = {**os.environ, "PYTHONPATH": str(source)}
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split(" at ")[1].split("/v1")[0].strip()
            time.sleep(0.5)
            yield url, server.pid
        finally:
            server.terminate()
            server.wait()


@contextmanager
def revision(name: str) -> Iterator[Path]:
    """Where that revision's sources lie for a while."""
    with tempfile.TemporaryDirectory() as directory:
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "-q", "--detach", directory, name], check=True)
        try:
            yield Path(directory) / "src"
        finally:
            subprocess.run([*git, "remove", "--force", directory], check=True)


def shown(name: str, runs: Sequence[dict[str, float]], rate: float) -> str:
    """One line about a server's runs."""
    middle = {key: median(run[key] for run in runs) for key in runs[0]}
    pace = f"{rate:g} steps/s" if rate else "burst"
    figures = f"{middle['us_per_event']:.2f} us CPU per event (median of {len(runs)})"
    return (
        f"{name}{middle['streams']:g} streams, {pace}: {figures}, "
        f"{middle['events_per_read']:.1f} events per read, {middle['wall_s']:.2f} s"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=64)
    options.add_argument("--tokens", type=int, default=256)
    options.add_argument("--rate", type=float, default=0.0, help="steps per second; 0 is a burst")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--against", metavar="REVISION", help="measure that one in turns with this")
    options.add_argument("--against-options", metavar="OPTIONS", help="measure with those in turns with none")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with ExitStack() as running:
        servers = {"": running.enter_context(serving(ROOT / "src", (), given))}
        if given.against or given.against_options:
            source = running.enter_context(revision(given.against)) if given.against else ROOT / "src"
            more = (given.against_options or "").split()
            servers["against: "] = running.enter_context(serving(source, more, given))
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for turn in range(given.runs):
            for name in [*servers] if turn % 2 else reversed(servers):
                runs[name].append(asyncio.run(measure(*servers[name], given.streams)))
    if given.json:
        print(json.dumps({"rate": given.rate, "runs": list(runs.values())}))
        return
    for name in servers:
        print(shown(name, runs[name], given.rate))
    if len(servers) > 1:
        here, there = ([run["us_per_event"] for run in some] for some in runs.values())
        ratio = median(a / b for a, b in zip(here, there, strict=True))
        quarter = len(here) // 4
        print(f"ratio: {ratio:.3f}; of the lower quartiles: {sorted(here)[quarter] / sorted(there)[quarter]:.3f}")


main()
