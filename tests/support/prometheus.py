"""A real Prometheus for tests, Debian's, on a free port; always stopped."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.wait import SAFETY, until

__all__ = ["prometheus", "promtool"]


@contextmanager
def prometheus(directory: Path, targets: list[str], rules: Path) -> Iterator[httpx.Client]:
    """It scrapes ``targets`` (host:port) as the job ``portico``, every second; a client of its API."""
    program = shutil.which("prometheus") or pytest.skip("prometheus is not installed (Debian's package prometheus)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scraped = {"job_name": "portico", "static_configs": [{"targets": targets}]}
    config = {"global": {"scrape_interval": "1s"}, "rule_files": [str(rules)], "scrape_configs": [scraped]}
    (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    arguments = (f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, *arguments, f"--web.listen-address={address}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=SAFETY) as client:
            until(lambda: process.poll() is not None or _ready(client))
            assert process.poll() is None, (directory / "log").read_text()
            yield client
    finally:
        process.terminate()
        process.wait(SAFETY)


def promtool(*arguments: str | Path) -> str:
    """What Prometheus's own checker says; fails where it is not satisfied."""
    program = shutil.which("promtool") or pytest.skip("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=SAFETY)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False
