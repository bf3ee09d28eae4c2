"""CPU per streamed event, end to end: a real server over the replay engine, a client that only reads bytes.

    python benchmarks/line.py [--streams 64] [--tokens 256] [--rate 50] [--json]
    python benchmarks/line.py --against REVISION --runs 20
    python benchmarks/line.py --against-options=--no-resume --runs 20
    python benchmarks/line.py --apis chat responses kept --runs 20

``--rate 0`` is a burst. The figure is CPU time of the server's threads, user and system, over the number of events
sent. With ``--against`` another revision of this repository is measured beside it, with ``--against-options`` a server
with other options, with ``--apis`` the same server by several APIs (``kept`` are responses that are stored): all take
turns. Told are the medians, and for each behind the first the median of the turns' ratios, the ratio of the lower
quartiles, which other work on the machine disturbs least, and what a stream costs more.
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

from portico.commands.bench.local import cpu_seconds

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 100000}
RESPONSE = {"input": "Hi", "stream": True, "max_output_tokens": 100000}
APIS = {  # path, body, and what stands near the end of the stream
    "chat": ("/v1/chat/completions", CHAT, b"[DONE]"),
    "responses": ("/v1/responses", {**RESPONSE, "store": False}, b"event: response.completed"),
    "kept": ("/v1/responses", RESPONSE, b"event: response.completed"),
}
ROOT = Path(__file__).resolve().parent.parent


async def one_stream(host: str, port: int, api: str) -> tuple[int, int]:
    """Returns (events, reads)."""
    path, fields, end = APIS[api]
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    events = reads = 0
    tail = b""
    while end not in tail:
        data = await reader.read(1 << 16)
        if not data:
            raise RuntimeError("stream ended early")
        reads += 1
        events += data.count(b"data: {")
        tail = tail[-len(end) :] + data
    writer.close()
    return events, reads


async def measure(url: str, pid: int, streams: int, api: str) -> dict[str, float]:
    host, port = url.removeprefix("http://").split(":")
    await asyncio.gather(*(one_stream(host, int(port), api) for _ in range(2)))  # warm
    before, started = cpu_seconds(pid), time.perf_counter()
    results = await asyncio.gather(*(one_stream(host, int(port), api) for _ in range(streams)))
    wall, cpu = time.perf_counter() - started, cpu_seconds(pid) - before
    events = sum(e for e, _ in results)
    return {
        "streams": streams,
        "events": events,
        "events_per_read": events / sum(r for _, r in results),
        "wall_s": wall,
        "cpu_s": cpu,
        "us_per_event": cpu / events * 1e6,
        "ms_per_stream": cpu / streams * 1e3,
    }


@contextmanager
def serving(source: Path, options: Sequence[str], given: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """The URL and the process of a server that runs what lies in ``source``."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "replay.jsonl"
        script.write_text(json.dumps({"token_ids": [(i % 5000) + 1000 for i in range(given.tokens)]}) + "\n")
        command = [sys.executable, "-m", "portico", "serve", "--engine", f"replay:{script}", "--port", "0"]
        command += ["--replay-rate", str(given.rate), "--log-level", "warning", "--max-in-flight", "4096", *options]
        command += ["--store", str(Path(directory) / "store.db")] if "kept" in given.apis else []
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


def compared(one: Sequence[dict[str, float]], first: Sequence[dict[str, float]]) -> str:
    """What one costs beside the first."""
    ours, theirs = ([run["us_per_event"] for run in runs] for runs in (one, first))
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    quarter = len(one) // 4
    lower = sorted(ours)[quarter] / sorted(theirs)[quarter]
    more = median(a["ms_per_stream"] - b["ms_per_stream"] for a, b in zip(one, first, strict=True))
    return f"{ratio:.3f} times the first's cost per event (lower quartiles: {lower:.3f}), {more:+.3f} ms per stream"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=64)
    options.add_argument("--tokens", type=int, default=256)
    options.add_argument("--rate", type=float, default=0.0, help="steps per second; 0 is a burst")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--against", metavar="REVISION", help="measure that one in turns with this")
    options.add_argument("--against-options", metavar="OPTIONS", help="measure with those in turns with none")
    options.add_argument("--apis", nargs="+", choices=[*APIS], default=["chat"], help="take turns on one server")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with ExitStack() as running:
        servers = {"": running.enter_context(serving(ROOT / "src", (), given))}
        if given.against or given.against_options:
            source = running.enter_context(revision(given.against)) if given.against else ROOT / "src"
            more = (given.against_options or "").split()
            servers["against: "] = running.enter_context(serving(source, more, given))
        contestants = {
            f"{name}{api + ': ' if len(given.apis) > 1 else ''}": (*server, given.streams, api)
            for name, server in servers.items()
            for api in given.apis
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
        for turn in range(given.runs):
            for name in [*contestants] if turn % 2 else reversed(contestants):
                runs[name].append(asyncio.run(measure(*contestants[name])))
    if given.json:
        print(json.dumps({"rate": given.rate, "runs": list(runs.values())}))
        return
    for name in contestants:
        print(shown(name, runs[name], given.rate))
    (_, first), *others = runs.items()
    for name, one in others:
        print(f"{name}{compared(one, first)}")


if __name__ == "__main__":
    main()
