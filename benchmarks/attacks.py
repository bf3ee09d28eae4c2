"""What attacks cost a server: the stall of its health probe, its memory, the pace of another client's stream, and
whether it serves as before afterwards.

    python benchmarks/attacks.py [URL [PID]]

Before each attack the stream is at rest for a while. Behind the attacks come the largest bodies that are none.
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
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.attacks import ALLOWED, ATTACKS, Attack, assault, high, listening, serves
from support.server import grpc_port, running_server

REST = 3.0  # seconds of the stream before each attack


def main() -> None:
    """Attack each server with everything, and print a table."""
    with ExitStack() as running:
        if len(sys.argv) > 1:
            servers = {"server": (sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)}
        else:
            servers = _started(running)
        shown = "answer, /health p99, memory, stream p99 (at rest)"
        print("| attack | body |", "".join(f" {name}: {shown} |" for name in servers), sep="")
        print("|---|---|", "---|" * len(servers), sep="")
        for attack in (*ATTACKS, *ALLOWED):
            body = attack.body(attack.full)  # made before anything is measured
            row = "".join(_row(url, pid, attack, body) for url, pid in servers.values())
            print(f"| {attack.name} | {len(body) / 1e6:.1f} MB |{row}", flush=True)


def _row(url: str, pid: int | None, attack: Attack, body: bytes) -> str:
    with listening(url) as gaps:
        time.sleep(REST)
        rest = len(gaps)
        cost = assault(url, replace(attack, body=lambda _: body), attack.full, pid)
    served = "" if serves(url) else ", does not serve"
    pace = f"{high(gaps[rest:]) * 1000:.0f} ms ({high(gaps[:rest]) * 1000:.0f})"
    answer = f"{cost.status or 'none'} in {cost.took:.2f} s, {cost.stall * 1000:.0f} ms"
    return f" {answer}, +{cost.memory / 1e6:.0f} MB, {pace}{served} |"


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
        command = [
            gateway,
            "launch",
            "--worker-urls",
            worker,
            "--backend",
            "vllm",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        process = running.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        running.callback(process.terminate)
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
