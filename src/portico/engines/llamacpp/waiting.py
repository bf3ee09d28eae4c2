"""How the threads that compute a batch wait for each other: spinning while the machine is quiet, else asleep.

Between two operators they meet some hundred times per token. Asleep they take long to wake, which costs a quiet machine
half its speed; spinning they take the processor from whoever the others wait for, which costs a busy one more. OpenMP
(GNU's) reads its setting once, when it is loaded. But it spins less while it manages more threads than there are
processors: so when others want the machine, it is given some to manage, which do nothing but wait for a semaphore.

Whether others want it shows in how long threads that could run do not (Linux's ``schedstat``). Where either is missing,
the setting stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path
from typing import Any, Final

__all__ = ["ENVIRONMENT", "Crowding", "Waiting", "running_and_delayed"]

ENVIRONMENT: Final = {  # must be set before OpenMP is loaded
    "OMP_WAIT_POLICY": "passive",  # with more threads than processors, sleep at once
    "GOMP_SPINCOUNT": "300000",  # rounds, some milliseconds: OpenMP's default, which a policy undoes
}

LOOK: Final = 0.2  # seconds between looks
CROWDED: Final = 0.25  # of the time that threads could have run, that they were kept waiting for a processor
QUIET: Final = 0.15  # with nobody else it is some hundredths, with one busy loop on two processors four tenths

_SEMAPHORE_BYTES: Final = 64  # more than any system's


def running_and_delayed() -> tuple[int, int] | None:
    """How long (nanoseconds) the threads of this process have run, and how long they could have and did not, all
    together; None where nobody tells."""
    running, delayed, known = 0, 0, False
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            ran, waited, _ = path.read_text().split()
            running, delayed, known = running + int(ran), delayed + int(waited), True
        except (OSError, ValueError):
            continue
    return (running, delayed) if known else None


class Crowding:
    """Whether the machine is busy with others, from how much of its time a process was kept waiting. Pure."""

    def __init__(self) -> None:
        self.crowded = False
        self._running = self._delayed = 0

    def look(self, running: int, delayed: int) -> bool:
        """Both are totals since some beginning. True when the answer has turned."""
        ran, waited = running - self._running, delayed - self._delayed
        self._running, self._delayed = running, delayed
        was = self.crowded
        if ran + waited > 0:  # a thread that ended takes its own with it
            self.crowded = waited > (QUIET if was else CROWDED) * (ran + waited)
        return self.crowded != was


class Waiting:
    """Sees to it that this process's OpenMP waits as the machine has it; ``look`` is called between batches."""

    def __init__(self) -> None:
        self._crowding = Crowding()
        self._next = 0.0
        self._release: Any = None
        try:
            self._openmp = ctypes.CDLL("libgomp.so.1")
            self._system = ctypes.CDLL(None)
            self._run = self._openmp.GOMP_parallel
            self._run.argtypes, self._run.restype = (
                (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint),
                None,
            )
        except (OSError, AttributeError):
            self._next = float("inf")

    def look(self, now: float) -> None:
        """``now`` in seconds."""
        if now < self._next:
            return
        self._next = now + LOOK
        times = running_and_delayed()
        if times is None:
            self._next = float("inf")
        elif self._crowding.look(*times):
            self.sleep() if self._crowding.crowded else self.spin()

    def sleep(self) -> None:
        """Have OpenMP manage more threads than there are processors."""
        count = (os.cpu_count() or 1) + 1
        semaphore = ctypes.create_string_buffer(_SEMAPHORE_BYTES)
        self._system.sem_init(semaphore, 0, 0)
        wait = ctypes.cast(self._system.sem_wait, ctypes.c_void_p)
        crowd = threading.Thread(target=self._run, args=(wait, ctypes.addressof(semaphore), count, 0), daemon=True)
        crowd.start()
        self._release = (semaphore, count, crowd)

    def spin(self) -> None:
        """Let them go."""
        if self._release is not None:
            semaphore, count, crowd = self._release
            for _ in range(count):
                self._system.sem_post(semaphore)
            crowd.join()
            self._release = None
