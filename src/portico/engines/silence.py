"""Telling a process that is hung from one that is busy: who says nothing and does nothing is hung.

An engine answers between two batches, and on a slow machine a batch may take minutes. So its silence counts against it
only while it uses next to no processor time, as when it is stopped, or waits for a lock or a driver that never comes
back. One that computes without a word gets ``BUSY`` times as long.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["LOOKS", "Silence", "processor_seconds"]

LOOKS: Final = 8  # in the time after which a silent process is hung
BUSY: Final = 20  # times as long for one that uses the processor
AT_WORK: Final = 0.01  # of a processor's time

_STOPPED: Final = "Tt"  # letters of /proc/PID/stat
_TICKS: Final = 100  # a second; what Linux shows to programs, whatever it counts in


class Silence:
    """Judges one process at regular looks; ``limit`` is in seconds. Pure: time is what ``look`` is told, so that time
    in which the looking process itself was stopped does not count."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._silent = self._idle = 0.0
        self._used = 0.0

    def look(self, seconds: float, heard: bool, used: float | None) -> bool:
        """Whether the process is hung. ``seconds`` have passed since the last look, it has been ``heard`` since or
        not, and has ``used`` so much processor time in all its life; None is unknown, and taken for work."""
        working = used is None or used - self._used >= AT_WORK * seconds
        self._used = used or 0.0
        self._silent = 0.0 if heard else self._silent + seconds
        self._idle = 0.0 if heard or working else self._idle + seconds
        return self._idle >= self._limit or self._silent >= BUSY * self._limit


def processor_seconds(leader: int) -> float | None:
    """Processor time that the process ``leader`` and those of the session that it leads have used; 0 while one of them
    is stopped, None where the system does not tell."""
    used, known = 0.0, False
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *rest = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, ValueError):
            continue  # it has ended
        if leader in (int(session), int(path.parent.name)):
            if state in _STOPPED:
                return 0.0
            known, used = True, used + (int(rest[7]) + int(rest[8])) / _TICKS
    return used if known else None
