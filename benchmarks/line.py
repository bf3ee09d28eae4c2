"""CPU per streamed event, end to end: a real server over the replay engine, a client that only reads bytes.

    python benchmarks/line.py [--streams 64] [--tokens 256] [--rate 50] [--json]

``--rate 0`` is a burst. The figure is CPU time of the server's process (user and system, from /proc) over the number of
events sent, with what idle costs taken off.
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
from pathlib import Path

BODY = {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 100000}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, default=64)
    options.add_argument("--tokens", type=int, default=256)
    options.add_argument("--rate", type=float, default=0.0, help="steps per second; 0 is a burst")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "replay.jsonl"
        script.write_text(json.dumps({"token_ids": [(i % 5000) + 1000 for i in range(given.tokens)]}) + "\n")
        command = [sys.executable, "-m", "portico", "serve", "--engine", f"replay:{script}", "--port", "0"]
        command += ["--replay-rate", str(given.rate), "--log-level", "warning", "--max-in-flight", "4096"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split(" at ")[1].split("/v1")[0].strip()
            time.sleep(0.5)
            runs = [asyncio.run(measure(url, server.pid, given.streams)) for _ in range(given.runs)]
        finally:
            server.terminate()
            server.wait()
    runs.sort(key=lambda run: run["us_per_event"])
    median = runs[len(runs) // 2]
    if given.json:
        print(json.dumps({"rate": given.rate, "median": median, "runs": runs}))
    else:
        pace = f"{given.rate:g} steps/s" if given.rate else "burst"
        print(
            f"{given.streams} streams, {pace}: {median['us_per_event']:.1f} us CPU per event (median of {given.runs}), "
            f"{median['events_per_read']:.1f} events per read, {median['wall_s']:.2f} s"
        )


main()
