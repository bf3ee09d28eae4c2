"""The processes of this machine that serve on a port, and the processor time that they have used. Linux only."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["cpu_seconds", "listening"]

_LISTENS = "0A"  # as /proc/net/tcp writes it


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of the process; the times of a whole process come in hundredths only."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def listening(port: int) -> list[int]:
    """The processes that have the socket which listens on that port, as far as they may be looked at."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(fields[9])
    if not sockets:
        return []
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if sockets & _sockets(pid)]


def _sockets(pid: int) -> set[str]:
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            if match := re.match(r"socket:\[(\d+)\]", os.readlink(entry.path)):
                found.add(match[1])
    except OSError:
        pass  # it has ended, or is another user's
    return found
