"""Real servers for tests: ``portico serve`` as a process on a free loopback port, always stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from support.wait import SAFETY, until

if TYPE_CHECKING:
    import httpx

START_SECONDS = 300


@dataclass
class RunningServer:
    """A server that is up: ``url`` has no trailing slash; ``log`` reads what it has printed so far."""

    url: str
    process: subprocess.Popen[bytes]
    output: object

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    def log(self) -> str:
        chunks: list[bytes] = []  # read from its places: the server writes where the descriptor they share stands
        while chunk := os.pread(self.output.fileno(), 1 << 16, sum(map(len, chunks))):  # type: ignore[attr-defined]
            chunks.append(chunk)
        return b"".join(chunks).decode(errors="replace")

    def stop(self, timeout: float = SAFETY) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def running_server(
    *arguments: str | Path,
    env: dict[str, str] | None = None,
    through: Sequence[str] = (),
    inherits: Sequence[int] = (),
    transport: httpx.BaseTransport | None = None,
) -> Iterator[RunningServer]:
    """``portico serve ARGUMENTS`` on a free port, until the block ends. Fails with the server's output if it does not
    come up. ``through`` is a command that starts it, ``inherits`` its descriptors beside; ``transport`` reaches it."""
    command = [*through, sys.executable, "-m", "portico", "serve", *map(str, arguments), "--port", "0"]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **(env or {})}
    with TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, pass_fds=inherits)
        server = RunningServer("", process, output)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not (found := re.search(r"(?: at |\"url\": \")(https?://[^\s\"]+)/v1\b", server.log())):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the server did not come up:\n{server.log()}")
                time.sleep(0.05)
            server.url = found[1]
            _wait_until_accepting(server.url, deadline, transport)
            yield server
        finally:
            if process.poll() is None:
                server.stop()


@contextmanager
def running_host(*arguments: str | Path) -> Iterator[RunningServer]:
    """``portico engine ARGUMENTS`` on a free port; its ``url`` is what front doors name."""
    command = [sys.executable, "-m", "portico", "engine", *map(str, arguments), "--grpc-port", "0"]
    with TemporaryFile() as output:
        host = RunningServer("", subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT), output)
        try:
            until(lambda: host.process.poll() is not None or "Use it" in host.log())
            found = re.search(r"porticos?://127\.0\.0\.1:\d+", host.log())
            assert found, host.log()
            host.url = found[0]
            yield host
        finally:
            host.process.kill()
            host.process.wait()


def grpc_port(server: RunningServer) -> int:
    """The port of a server that was started with ``--grpc-port``."""
    found = re.search(r"gRPC at \S+:(\d+)", server.log())
    assert found is not None
    return int(found[1])


def _wait_until_accepting(url: str, deadline: float, transport: httpx.BaseTransport | None) -> None:
    import httpx

    client = httpx.Client(timeout=120, transport=transport)  # not closed: the transport is the caller's
    while True:
        try:
            client.get(url + "/health")
            return
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
