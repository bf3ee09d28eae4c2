"""What attacks cost a server: the stall of its health probe, its memory, the pace of another client's stream, and
whether it serves as before afterwards.

    python benchmarks/attacks.py [URL [PID]]

Rest and attack take turns, ``ROUNDS`` times, each for ``SECONDS`` in which the same body is sent again and again. Told
is the median of the rounds' 99th percentiles, and in brackets the median of how many times that of the rest before it
each one is: so what else the machine does in one of the rounds counts for little. Behind the attacks come the largest
bodies that are none. One server after the other, since what one goes on with must not slow another; all of it takes
about six minutes, and standard error tells how far it is.

Without arguments Portico is started over the replay engine, and where the gateway ``smg`` is installed
(``pip install 'portico[gateways]'``) it is started beside it, over Portico's gRPC service. With them, the attacks go to
the server at ``URL``; memory is that of the process ``PID``, 0 where it is not given. Bodies are those of
``tests/support/attacks.py``, in full size; docs/security.md has the table.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.attacks import ALLOWED, ATTACKS, Attack, high, listening, peak, post, probing, serves
from support.server import grpc_port, running_server

ROUNDS = 3
SECONDS = 0.6  # of a rest, and of an attack where one body is answered sooner
PATIENCE = 10.0  # seconds until an answer counts as none


def main() -> None:
    """Attack each server with everything, and print a table."""
    everything = (*ATTACKS, *ALLOWED)
    with ExitStack() as running:
        if len(sys.argv) > 1:
            servers = {"server": (sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)}
        else:
            servers = _started(running)
        columns = ("answer", "memory", "/health p99", "stream p99")
        print("| attack | body |", *(f" {name}: {column} |" for name in servers for column in columns), sep="")
        print("|---|---|", "---|" * len(servers) * len(columns), sep="")
        rows = [f"| {attack.name} | {len(attack.body(attack.full)) / 1e6:.1f} MB |" for attack in everything]
        for name, (url, pid) in servers.items():
            for number, attack in enumerate(everything):
                print(f"{name}: {attack.name}", file=sys.stderr)
                rows[number] += _cells(url, pid, attack)
        print(*rows, sep="\n")


def _cells(url: str, pid: int | None, attack: Attack) -> str:
    body = attack.body(attack.full)  # made before anything is measured
    waits: list[tuple[float, float]] = []  # of the rounds: 99th percentiles at rest and attacked
    gaps: list[tuple[float, float]] = []
    took: list[float] = []
    memory = 0
    for _ in range(ROUNDS):
        with listening(url) as stream, probing(url) as probe:
            limit = time.monotonic() + PATIENCE
            while not stream and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(SECONDS)
            rest, calm = len(stream), len(probe.waits)
            before, began = peak(pid, forget=True), time.monotonic()
            while time.monotonic() < began + SECONDS:
                sent = time.monotonic()
                status, _answer = post(url, attack.path, body, PATIENCE)
                took.append(time.monotonic() - sent)
            time.sleep(0.1)  # what comes after the answer counts too
        memory = max(memory, peak(pid) - before)
        waits.append((high(probe.waits[:calm]), high(probe.waits[calm:])))
        gaps.append((high(stream[:rest]), high(stream[rest:])))
        if not status:
            break
    served = "" if serves(url) else ", does not serve"
    answer = f"{status or 'none'} in {median(took):.2f} s{served}"
    return f" {answer} | +{memory / 1e6:.0f} MB | {_beside(waits)} | {_beside(gaps)} |"


def _beside(rounds: list[tuple[float, float]]) -> str:
    attacked = median(one for _, one in rounds) * 1000
    if attacked == float("inf"):
        return "none"
    return f"{attacked:.0f} ms (x {median(one / rest for rest, one in rounds):.1f})"


def _started(running: ExitStack) -> dict[str, tuple[str, int | None]]:
    recorded = Path(running.enter_context(tempfile.TemporaryDirectory())) / "answers.jsonl"
    recorded.write_text(json.dumps({"text": "hello " * 5000}) + "\n")
    options = ("--engine", f"replay:{recorded}", "--replay-rate", "50", "--grpc-port", "0")
    portico = running.enter_context(running_server("smollm2", *options))
    servers: dict[str, tuple[str, int | None]] = {"Portico": (portico.url, portico.process.pid)}
    beside = Path(sys.executable).parent / "smg"
    gateway = str(beside) if beside.exists() else shutil.which("smg")
    if gateway is not None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        worker = f"grpc://127.0.0.1:{grpc_port(portico)}"
        where = ["--host", "127.0.0.1", "--port", str(port)]
        command = [gateway, "launch", "--worker-urls", worker, "--backend", "vllm", *where]
        process = running.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        running.callback(process.kill)  # it waits for what it has begun, for minutes
        url = f"http://127.0.0.1:{port}"
        _wait_for(url + "/health")
        servers["smg"] = (url, process.pid)
    return servers


def _wait_for(url: str, seconds: float = 120.0) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"{url} did not answer within {seconds:g} seconds")


if __name__ == "__main__":
    main()
