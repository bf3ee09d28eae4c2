"""Portico beside other front doors: the same tokens at the same pace, the same load, in turns, on one machine.

    pip install 'portico[gateways]'
    python benchmarks/versus.py [--fetch] [--rounds 3] [--streams 64] [--tokens 128] [--also NAME=URL]... [--json]

``front_doors.py`` says which there are and what stands behind each. Each stands twice, over an engine without a pace
and over one at 50 tokens a second. ``portico bench`` asks, a process of its own, and of its figures these are told:

    burst         us of processor time per event, all streams at once, as fast as it goes; some join tokens then, and
                  how many are in an event is told beside it
    paced         us of processor time per event at 50 tokens a second and stream
    requests      answers of one token per second, all streams at once
    first event   ms until it comes, one request after another
    admission     ms of processor time per request with a prompt of 1,000 tokens and an answer of one
    resident      MB in memory before the first request
    proportional  the same, what is shared with other processes (here also with its engine and its twin) in parts
    bytes         of an event, paced: the answer's body over its events

Processor time and memory are those of the processes that listen at the front door's port. Everything takes turns, so
that what else the machine does meets all; told are the medians, with the ratio to the first row. ``--json`` also has
events per second, and the 99th percentile of the gap between paced events. One that is not here, or does not come up,
says why in its row; a server that runs already, whatever its engine is, takes part with ``--also``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from front_doors import FRONT_DOORS, Absent, FrontDoor, checkpoint, fetch_vllm_rs, portico

from portico.commands.bench.local import listening

PACES = {"burst": 0, "paced": 50}  # tokens a second
COLUMNS = {
    "burst_us": "burst, us",
    "burst_tokens_per_event": "tokens in it",
    "paced_us": "paced, us",
    "requests_per_second": "requests/s",
    "first_event_ms": "first event, ms",
    "admission_ms": "admission, ms",
    "resident_mb": "resident, MB",
    "proportional_mb": "proportional, MB",
    "bytes_per_event": "bytes",
}
PATIENCE = 600.0  # seconds for a server to start


@dataclass
class Row:
    """A front door over each engine, or why there is none; ``found`` has a value per round for each figure."""

    name: str
    urls: dict[str, str] = field(default_factory=dict)  # by the pace
    absent: str = ""
    found: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figure: str, value: float | None) -> None:
        if value is not None:
            self.found.setdefault(figure, []).append(value)


class Servers:
    """Starts front doors with their engines, and ends them with the block. All log into ``directory``."""

    def __init__(self, running: ExitStack, directory: Path, tokens: int) -> None:
        self._running = running
        self._directory = directory
        self._given = {"script": directory / "replay.jsonl", "checkpoint": directory}
        line = json.dumps({"token_ids": [(i % 5000) + 1000 for i in range(tokens)]})
        self._given["script"].write_text(line + "\n")
        checkpoint(directory)
        self._started: dict[str, list[tuple[subprocess.Popen[bytes], Path]]] = {}

    def start(self, door: FrontDoor, program: Sequence[str], pace: int) -> str:
        """The URL of the front door, whose engine plays at that pace. It need not have come up."""
        ports = {name: _free_port() for name in ("port", "other", "engine", "unused")}
        url = f"http://127.0.0.1:{ports['port']}"
        commands = [command for command in ([*program, *door.options], door.engine) if command]
        self._started[url] = [
            self._process([word.format(**ports, **self._given, rate=pace) for word in command], door, ports["port"])
            for command in commands
        ]
        return url

    def why_not(self, url: str) -> str:
        """Wait until it serves a model; the reason, in a line, if it never does."""
        limit = time.monotonic() + PATIENCE
        while not _lists_a_model(url):
            for process, log in self._started[url]:
                if process.poll() is not None or time.monotonic() > limit:
                    said = log.read_text(encoding="utf-8", errors="replace").split("\n")
                    return f"did not come up: {next((line for line in reversed(said) if line.strip()), '')[:200]}"
            time.sleep(0.2)
        return ""

    def _process(self, command: list[str], door: FrontDoor, port: int) -> tuple[subprocess.Popen[bytes], Path]:
        path = self._directory / f"{port}-{Path(command[0]).name}-{len(self._started)}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **door.environment})
        self._running.callback(process.wait)
        self._running.callback(process.terminate)
        return process, path


def rows(servers: Servers, also: Sequence[str]) -> list[Row]:
    """Every front door that can be had, started, and why the others cannot."""
    made = []
    for door in FRONT_DOORS:
        try:
            program = door.program()
        except Absent as why:
            made.append(Row(door.name, absent=str(why)))
        else:
            made.append(Row(door.name, {name: servers.start(door, program, pace) for name, pace in PACES.items()}))
    for row in made:
        row.absent = row.absent or next(filter(None, map(servers.why_not, row.urls.values())), "")
    for one in also:
        name, _, url = one.partition("=")
        made.append(Row(name, dict.fromkeys(PACES, url)))
    return made


def bench(url: str, *options: str) -> dict[str, Any]:
    """What ``portico bench`` finds."""
    command = [*portico(), "bench", "--url", url, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2)
    if done.returncode:
        raise SystemExit(f"{url}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["failed"]:
        print(f"{url}: {found['failed']} requests failed: {found.get('errors')}", file=sys.stderr)
    return found


def measure(row: Row, streams: int, tokens: int) -> dict[str, Callable[[], None]]:
    """The measurements of one row, by name; each adds to what is found."""
    many = ("--concurrency", str(streams))
    long, one_token = ("--max-tokens", str(tokens)), ("--max-tokens", "1")

    def burst() -> None:
        found = bench(row.urls["burst"], *many, *long, "--requests", str(4 * streams))
        row.add("burst_us", found.get("server_cpu_us_per_event"))
        row.add("burst_events_per_second", found["events_per_second"])
        row.add("burst_tokens_per_event", found["requests"] * tokens / found["events"])

    def paced() -> None:
        found = bench(row.urls["paced"], *many, *long, "--requests", str(streams))
        row.add("paced_us", found.get("server_cpu_us_per_event"))
        row.add("paced_gap_p99_ms", found["gap_ms"]["p99"])
        row.add("bytes_per_event", found["bytes_per_event"])

    def requests() -> None:
        found = bench(row.urls["burst"], *many, *one_token, "--requests", str(16 * streams))
        row.add("requests_per_second", found["requests_per_second"])

    def first_event() -> None:
        found = bench(row.urls["burst"], "--concurrency", "1", *one_token, "--requests", "64")
        row.add("first_event_ms", found["first_event_ms"]["p50"])

    def admission() -> None:
        prompt = ("--prompt-tokens", "1000")
        found = bench(row.urls["burst"], "--concurrency", "8", *one_token, "--requests", "256", *prompt)
        row.add("admission_ms", found.get("server_cpu_ms_per_request"))

    return {one.__name__: one for one in (burst, paced, requests, first_event, admission)}


def weigh(row: Row) -> None:
    """Memory of the processes that listen at the row's port, in MB."""
    pids = listening(int(row.urls["burst"].rpartition(":")[2]))
    for figure, name in (("resident_mb", "Rss"), ("proportional_mb", "Pss")):
        rolls = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
        sizes = [int(found[1]) for roll in rolls if (found := re.search(rf"^{name}:\s+(\d+)", roll, re.M))]
        row.add(figure, sum(sizes) / 1024 if sizes else None)


def table(made: Sequence[Row]) -> str:
    """The medians in a Markdown table, each with its ratio to the first row's."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    first = {figure: median(values) for figure, values in made[0].found.items()}
    for row in made:
        cells = []
        for figure in COLUMNS:
            value = median(row.found[figure]) if figure in row.found else None
            known = value is not None and row is not made[0] and first.get(figure)
            cells.append("-" if value is None else f"{value:,.4g}" + (f" ({value / known:.2f})" if known else ""))
        lines.append(f"| {row.name} | {row.absent or ' | '.join(cells)} |")
    return "\n".join(lines)


def _free_port() -> int:
    """A port that nobody has, from below those that the system gives away meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def _lists_a_model(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as answer:
            return bool(json.load(answer)["data"])
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--fetch", action="store_true", help="download what is not a package of its own: vllm-rs")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--streams", type=int, default=64)
    options.add_argument("--tokens", type=int, default=128, help="of each answer")
    options.add_argument("--also", action="append", default=[], metavar="NAME=URL", help="a server that runs already")
    options.add_argument("--logs", type=Path, help="directory for what the servers say")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if given.fetch:
        fetch_vllm_rs()
    with ExitStack() as running:
        directory = given.logs or Path(running.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        made = rows(Servers(running, directory, given.tokens), given.also)
        there = [row for row in made if not row.absent]
        time.sleep(1.0)
        for row in there:
            weigh(row)
        for row in there:  # the first requests of a process pay for what is made once
            warm = ("--concurrency", "4", "--requests", "32", "--prompt-tokens", "1000", "--max-tokens", "2")
            bench(row.urls["burst"], *warm)
            bench(row.urls["paced"], *warm)
        time.sleep(2.0)
        measurements = [measure(row, given.streams, given.tokens) for row in there]
        for _ in range(given.rounds):
            for name in measurements[0]:
                for each in measurements:
                    each[name]()
    if given.json:
        print(json.dumps([{"name": row.name, "absent": row.absent, **row.found} for row in made]))
    else:
        print(table(made))


if __name__ == "__main__":
    main()
