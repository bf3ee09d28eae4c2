"""Who has done what, and when: a line of JSON for each, in a file that only grows. Nothing of prompts and answers."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Audit"]

log = logging.getLogger("portico")


class Audit:
    """Appends to ``path``, which its user alone may read; without one nothing is written. Several processes may have
    the same file: a line is written in one piece."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def note(self, action: str, who: str, **facts: str | int | None) -> None:
        """Write it down, with what of ``facts`` is known. What cannot be written is told in the log."""
        if self._path is None:
            return
        known = {name: value for name, value in facts.items() if value not in (None, "")}
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": at, "action": action, "who": who, **known}) + "\n"
        try:
            file = os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)
        except OSError as error:
            log.error("the audit log %s cannot be written: %s", self._path, error.strerror)
