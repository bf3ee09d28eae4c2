"""Recorded requests as files of a directory: what workers show of each other's, and what outlives a process.

``ID.head`` has a request in one line, from its beginning on; ``ID.json``, once it is over, is what an export has (see
``portico.server.observe.export``). Several processes may write into one directory; each keeps it within the bounds.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from portico.trace import Head

__all__ = ["TraceFiles"]

MAX_BYTES: Final = 1 << 30  # of all files together
OPEN_SECONDS: Final = 3600.0  # after which a request that has not ended is one whose process was killed
ID: Final = re.compile(r"tr_[0-9a-f]+")


class TraceFiles:
    """The last ``keep`` requests in ``directory``, which is made if it is absent; for its owner alone."""

    def __init__(self, directory: Path, keep: int) -> None:
        self._directory = directory
        self._keep = keep
        self._seen: dict[str, tuple[int, Head]] = {}  # by id, with the time of the file
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self, head: Head) -> None:
        """A request has begun."""
        self._write(f"{head.id}.head", msgspec.json.encode(head))

    def end(self, head: Head, export: dict[str, Any]) -> None:
        """It is over, and this is all of it."""
        self._write(f"{head.id}.json", orjson.dumps(export))
        self.begin(head)
        self._prune()

    def heads(self) -> list[Head]:
        """Every request in one line, the newest first."""
        found: dict[str, tuple[int, Head]] = {}
        for entry in os.scandir(self._directory):
            id, _, kind = entry.name.partition(".")
            if kind != "head":
                continue
            try:
                changed = entry.stat().st_mtime_ns
                seen = self._seen.get(id)
                if seen is None or seen[0] != changed:
                    seen = changed, msgspec.json.decode(Path(entry.path).read_bytes(), type=Head)
                found[id] = seen
            except (OSError, msgspec.DecodeError):  # another process has deleted it
                continue
        self._seen = found
        now = time.time()
        heads = (head for _, head in found.values() if head.state != "open" or now - head.began < OPEN_SECONDS)
        return sorted(heads, key=lambda head: head.began, reverse=True)

    def find(self, id: str) -> Head | None:
        """The request with that trace's id, or the newest with that id of its own."""
        return next((head for head in self.heads() if id in (head.id, head.request_id)), None)

    def read(self, id: str) -> bytes | None:
        """The export of the trace of that id; None where it has not ended, or is gone."""
        try:
            return (self._directory / f"{id}.json").read_bytes() if ID.fullmatch(id) else None
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all, for whoever reads."""
        path = self._directory / f".{name}.{os.getpid()}"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        path.replace(self._directory / name)

    def _prune(self) -> None:
        """Delete the oldest over the bounds."""
        kept = 0
        for number, head in enumerate(self.heads()):
            paths = [self._directory / f"{head.id}.{kind}" for kind in ("json", "head")]
            kept += sum(path.stat().st_size for path in paths if path.exists())
            if number >= self._keep or (number and kept > MAX_BYTES):
                for path in paths:
                    path.unlink(missing_ok=True)
