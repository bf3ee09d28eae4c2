"""A batch of many long lines takes little more memory than one of a few.

``PORTICO_EXHAUSTIVE=1`` takes as many as there may be, which needs two minutes; by default it is a fifth of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from portico.protocols.batches.lines import MOST_BYTES, MOST_LINES
from support.attacks import peak
from support.batches import ENDED
from support.effort import EXHAUSTIVE
from support.server import running_server
from support.tiny_models import write
from support.wait import SAFETY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(6 * 3600),
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc"),
]

MORE = (100 if EXHAUSTIVE else 50) << 20  # bytes; a fifth of the lines has 35 MB
MANY = MOST_LINES if EXHAUSTIVE else MOST_LINES // 5
FEW = 200
ENDPOINT = "/v1/completions"


def lines(number: int, size: int) -> Iterator[bytes]:
    """So many, of about so many bytes each."""
    for at in range(number):
        body = {"prompt": [at % 200, 5], "max_tokens": 1, "user": "u" * (size - 150)}
        yield json.dumps({"custom_id": f"line-{at}", "method": "POST", "url": ENDPOINT, "body": body}).encode() + b"\n"


class Batch:
    """One, from its file to what came out; ``peak`` is the most that the server has taken until then."""

    def __init__(self, client: httpx.Client, file: Path, pid: int, number: int) -> None:
        self._client, self._file, self._pid, self._number = client, file, pid, number
        with file.open("wb") as writing:
            writing.writelines(lines(number, MOST_BYTES // MOST_LINES))

    def run(self) -> Iterator[tuple[str, int]]:
        """What was done, and the peak after it."""
        with self._file.open("rb") as reading:
            given = {"file": ("lines.jsonl", reading)}
            file = self._client.post("/v1/files", data={"purpose": "batch"}, files=given).json()["id"]
        yield "uploaded", peak(self._pid)
        asked = {"input_file_id": file, "endpoint": ENDPOINT, "completion_window": "24h"}
        id = self._client.post("/v1/batches", json=asked).json()["id"]
        seen = "validating"
        while (batch := self._client.get(f"/v1/batches/{id}").json())["status"] not in ENDED:
            if batch["status"] != seen:
                yield (seen := batch["status"]), peak(self._pid)
            time.sleep(0.2)
        assert batch["status"] == "completed"
        assert batch["request_counts"] == {"total": self._number, "completed": self._number, "failed": 0}
        yield "ended", peak(self._pid)
        read = 0
        with self._client.stream("GET", f"/v1/files/{batch['output_file_id']}/content") as answer:
            for piece in answer.iter_bytes():
                read += piece.count(b"\n")
        assert read == self._number
        yield "downloaded", peak(self._pid)


def test_a_large_batch_takes_little_memory(tmp_path: Path) -> None:
    """Uploaded, looked at, run, put together and downloaded, in one process."""
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"text": "word"}) + "\n")
    model = write("llama", tmp_path / "tiny.gguf")
    options = ("--engine", f"replay:{answers}", "--store", tmp_path / "portico.db", "--log-level", "warning")
    with running_server(model, *options) as server, httpx.Client(base_url=server.url, timeout=10 * SAFETY) as client:
        pid, file = server.process.pid, tmp_path / "lines.jsonl"
        *_, (_, before) = Batch(client, file, pid, FEW).run()
        for done, after in Batch(client, file, pid, MANY).run():
            assert after - before <= MORE, f"{(after - before) >> 20} MiB more when {done}"
            print(f"{(after - before) >> 20} MiB more when {done}")
