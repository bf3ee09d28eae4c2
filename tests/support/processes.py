"""Processes as the system sees them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["children", "exists", "runs", "state"]


def exists(pid: int) -> bool:
    """Whether there is such a process, be it a zombie that nobody has reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def state(pid: int) -> str:
    """One letter as ps shows it (R, S, T, Z, …), empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def runs(pid: int) -> bool:
    """Whether it exists and is no zombie; an orphan's is for the system to reap."""
    return state(pid) not in ("", "Z")


def children(pid: int, module: str = "") -> list[int]:
    """Those that it has started, in whatever thread; with ``module``, those of them whose command line names it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and module.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            pass
    return sorted(found)
