"""Portico beside other front doors: the same engine, the same load, in turns, on one machine.

    pip install 'portico[gateways]'
    python benchmarks/versus.py [--rounds 3] [--streams 64] [--tokens 128] [--also NAME=URL]... [--json]

The engine is Portico's replay engine, which plays tokens back: in the process of the front door, or in one of its own
that the others share, over the protocol that the row names. Each front door stands twice, over an
engine without a pace and over one at 50 tokens a second. ``portico bench`` asks, a process of its own, and its figures
are told:

    burst      us of processor time per event, and events per second, all streams at once, as fast as it goes
    paced      us of processor time per event, and the 99th percentile of the gap, at 50 tokens a second and stream
    admission  ms of processor time per request with a prompt of 1,000 tokens and an answer of one
    at rest    MB in memory before the first request: resident, and proportional (what is shared counted in parts)

Processor time is that of the processes that listen at the front door's port. Everything takes turns, so that what else
the machine does meets all; told are the medians, with the ratio to the first row. A server that runs already, whatever
its engine is, takes part with ``--also``. A peer that is not here says so in its row.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from portico.commands.bench.local import listening

PORTICO = [sys.executable, "-m", "portico"]
PACE = 50  # tokens a second
FIGURES = ("burst_us", "burst_events_per_second", "paced_us", "paced_gap_p99_ms", "admission_ms")
MEMORY = ("resident_mb", "proportional_mb")
PATIENCE = 600.0  # seconds for a server to start


@dataclass
class Row:
    """A front door over each engine, or why there is none; ``found`` has a value per round for each figure."""

    name: str
    urls: dict[str, str] = field(default_factory=dict)  # by the engine: burst, paced
    absent: str = ""
    found: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figure: str, value: float | None) -> None:
        if value is not None:
            self.found.setdefault(figure, []).append(value)


class Servers:
    """Starts servers, and ends them with the block. Those that were started are there after ``ready``."""

    def __init__(self, running: ExitStack, given: argparse.Namespace) -> None:
        self._running = running
        self._waiting: list[tuple[str, subprocess.Popen[bytes], Callable[[], None]]] = []
        directory = Path(running.enter_context(tempfile.TemporaryDirectory()))
        self._log = given.log or directory / "log"
        self._script = directory / "replay.jsonl"
        self._script.write_text(json.dumps({"token_ids": [(i % 5000) + 1000 for i in range(given.tokens)]}) + "\n")
        self._most = str(max(1024, given.streams))

    def replay(self, rate: float) -> list[str]:
        """The options of the replay engine at that pace; 0 is none."""
        return ["--engine", f"replay:{self._script}", "--replay-rate", str(rate)]

    def engine(self, scheme: str, rate: float) -> str:
        """The address of an engine in a process of its own."""
        port = _free_port()
        place = f"{scheme}://127.0.0.1:{port}"
        if scheme == "portico":
            command = [*PORTICO, "engine", *self.replay(rate), "--grpc-port", str(port)]
            self._start(place, command, lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        else:  # a front door's gRPC port speaks vLLM's protocol, too
            self.portico(*self.replay(rate), "--grpc-port", str(port))
        return place

    def portico(self, *options: str) -> str:
        """The URL of a front door with these options."""
        command = [*PORTICO, "serve", *options, "--port", "{port}", "--store", "none", "--log-level", "warning"]
        return self.front([*command, "--max-in-flight", self._most])

    def front(self, command: list[str]) -> str:
        """The URL of a server that listens at ``{port}`` of its command; ``{other}`` is one more free port."""
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        command = [word.format(port=port, other=_free_port()) for word in command]
        self._start(url, command, lambda: _lists_a_model(url))
        return url

    def ready(self) -> None:
        """Wait for all that were started. Ends the program where one does not come up."""
        limit = time.monotonic() + PATIENCE
        for name, process, look in self._waiting:
            while True:
                try:
                    look()
                    break
                except (urllib.error.URLError, OSError):
                    if process.poll() is not None or time.monotonic() > limit:
                        said = self._log.read_text(encoding="utf-8", errors="replace")[-1000:]
                        raise SystemExit(f"{name} did not come up; last was said:\n{said}") from None
                    time.sleep(0.2)
        self._waiting.clear()

    def _start(self, name: str, command: list[str], look: Callable[[], None]) -> None:
        with self._log.open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self._waiting.append((name, process, look))
        self._running.callback(process.wait)
        self._running.callback(process.terminate)


def rows(servers: Servers, given: argparse.Namespace) -> list[Row]:
    """Every front door that can be had, started."""
    paces = {"burst": 0.0, "paced": float(PACE)}
    inside = {name: servers.portico(*servers.replay(pace)) for name, pace in paces.items()}
    made = [Row("portico, engine inside", inside)]
    engines = {
        scheme: {name: servers.engine(scheme, pace) for name, pace in paces.items()} for scheme in ("portico", "grpc")
    }
    servers.ready()
    for scheme, places in engines.items():
        urls = {name: servers.portico("--engine", place) for name, place in places.items()}
        made.append(Row(f"portico, {scheme}:// engine", urls))
    beside = Path(sys.executable).parent / "smg"
    smg = str(beside) if beside.exists() else shutil.which("smg")
    if smg is None:
        made.append(Row("smg, grpc:// engine", absent="not installed: pip install 'portico[gateways]'"))
    else:
        launch = [smg, "launch", "--backend", "vllm", "--host", "127.0.0.1", "--port", "{port}"]
        launch += ["--prometheus-port", "{other}", "--log-level", "error"]
        urls = {name: servers.front([*launch, "--worker-urls", place]) for name, place in engines["grpc"].items()}
        made.append(Row("smg, grpc:// engine", urls))
    servers.ready()
    for also in given.also:
        name, _, url = also.partition("=")
        made.append(Row(name, {"burst": url, "paced": url}))
    for name in ("vllm serve", "vllm-rs", "llama-server"):
        if not any(row.name.startswith(name) for row in made):
            why = "has no engine in common with the others: start it, and name it with --also"
            made.append(Row(name, absent=f"{why} '{name}=http://HOST:PORT'"))
    return made


def bench(url: str, *options: str) -> dict[str, Any]:
    """What ``portico bench`` finds."""
    done = subprocess.run(
        [*PORTICO, "bench", "--url", url, "--json", *options], capture_output=True, text=True, timeout=PATIENCE * 2
    )
    if done.returncode:
        raise SystemExit(f"{url}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["failed"]:
        print(f"{url}: {found['failed']} requests failed: {found.get('errors')}", file=sys.stderr)
    return found


def measure(row: Row, given: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """The measurements of one row, by name; each adds to what is found."""
    load = ["--concurrency", str(given.streams), "--max-tokens", str(given.tokens)]

    def burst() -> None:
        found = bench(row.urls["burst"], *load, "--requests", str(4 * given.streams))
        row.add("burst_us", found.get("server_cpu_us_per_event"))
        row.add("burst_events_per_second", found["events_per_second"])

    def paced() -> None:
        found = bench(row.urls["paced"], *load, "--requests", str(given.streams))
        row.add("paced_us", found.get("server_cpu_us_per_event"))
        row.add("paced_gap_p99_ms", found["gap_ms"]["p99"])

    def admission() -> None:
        short = ["--concurrency", "8", "--requests", "256", "--max-tokens", "1", "--prompt-tokens", "1000"]
        row.add("admission_ms", bench(row.urls["burst"], *short).get("server_cpu_ms_per_request"))

    return {"burst": burst, "paced": paced, "admission": admission}


def weigh(row: Row) -> None:
    """Memory of the processes that listen at the row's port, in MB."""
    pids = listening(int(row.urls["burst"].rpartition(":")[2]))
    for figure, field_name in zip(MEMORY, ("Rss", "Pss"), strict=True):
        rolls = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
        sizes = [int(found[1]) for roll in rolls if (found := re.search(rf"^{field_name}:\s+(\d+)", roll, re.M))]
        row.add(figure, sum(sizes) / 1024 if sizes else None)


def table(made: list[Row]) -> str:
    """The medians in a Markdown table, each with its ratio to the first row's."""
    figures = (*FIGURES, *MEMORY)
    lines = ["| | " + " | ".join(name.replace("_", " ") for name in figures) + " |", "|---|" + "---:|" * len(figures)]
    first = {name: median(values) for name, values in made[0].found.items()}
    for row in made:
        cells = []
        for name in figures:
            value = median(row.found[name]) if name in row.found else None
            ratio = (
                f" ({value / first[name]:.2f})" if value is not None and row is not made[0] and first.get(name) else ""
            )
            cells.append("-" if value is None else f"{value:,.4g}{ratio}")
        lines.append(f"| {row.name} | " + (row.absent if row.absent else " | ".join(cells)) + " |")
    return "\n".join(lines)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _lists_a_model(url: str) -> None:
    with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as answer:
        if not json.load(answer)["data"]:
            raise OSError("it lists none yet")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--streams", type=int, default=64)
    options.add_argument("--tokens", type=int, default=128, help="of each answer")
    options.add_argument("--also", action="append", default=[], metavar="NAME=URL", help="a server that runs already")
    options.add_argument("--log", type=Path, help="file for what the servers say")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with ExitStack() as running:
        made = rows(Servers(running, given), given)
        there = [row for row in made if row.urls]
        time.sleep(1.0)
        for row in there:
            weigh(row)
        for row in there:  # the first requests of a process pay for what is made once
            bench(
                row.urls["burst"],
                "--concurrency",
                "4",
                "--requests",
                "32",
                "--prompt-tokens",
                "1000",
                "--max-tokens",
                "2",
            )
        time.sleep(2.0)
        measurements = [measure(row, given) for row in there]
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
