"""A Python process that does one kind of work, may be killed while it does, and is replaced when it was.

For work that a client can make arbitrarily long and that cannot be interrupted from inside: native code, a single
step of an interpreter. Parent and child speak length-prefixed frames over the child's standard input and output; what
the frames mean is the business of the module that uses this. The child sees almost none of the environment, may not
grow without bound where the system can hold it to that, and ends when its standard input does: with its parent,
however that ends.

    parent                                   child: python -m some.module
    child = Child("some.module", ...)        answer_frames(work, cpu_seconds=1, memory=...)
    child.ask(frame) -> frame or None        work(frame) -> frame
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO

__all__ = ["Child", "answer_frames"]

MAX_FRAME = 256 * 1024 * 1024
PASSED_ON = ("PATH", "PYTHONPATH", "SYSTEMROOT", "TZ")  # all of the environment that the child sees


class Child:
    """The parent's side. ``ask`` blocks, one question at a time; any thread may call it.

    ``greeting`` is the first frame that every new process gets, answered with an empty one when it is ready: starting
    does not count against ``seconds``, the wall-clock time of one question.
    """

    def __init__(self, module: str, *, seconds: float, greeting: bytes = b"") -> None:
        self.module = module
        self.seconds = seconds
        self.greeting = greeting
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process now running, if any."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Have the process ready for the first question; raises ``OSError`` if it cannot be started."""
        with self._lock:
            self._ready()

    def ask(self, frame: bytes) -> bytes | None:
        """The child's answer; None when it had to be killed or died over it."""
        with self._lock:
            process = self._ready()
            timer = threading.Timer(self.seconds, process.kill)
            timer.daemon = True
            timer.start()
            try:
                answer = _exchange(process, frame)
            finally:
                timer.cancel()
            if answer is None:
                self._stop()
            return answer

    def close(self) -> None:
        """End the process; idempotent. The next question would start another."""
        with self._lock:
            self._stop()

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
            start_new_session=True,  # the terminal's Ctrl-C is for the parent, which ends the child
        )
        if _exchange(self._process, self.greeting) is None:
            self._stop()
            raise OSError(f"the helper process {self.module} could not be started")
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        pass


def answer_frames(
    work: Callable[[bytes], bytes], *, greet: Callable[[bytes], None] | None = None, cpu_seconds: float, memory: int
) -> None:
    """The child's side: answer frames until the parent is gone.

    ``greet`` takes the greeting. A question that needs more than ``cpu_seconds`` of processor time ends the process, by
    the system's own timer, so also out of native code; so does growing by more than ``memory`` bytes of address space
    once greeted.
    """
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    greeting = _read(source)
    if greeting is None:
        return
    if greet is not None:
        greet(greeting)
    _limit_memory(memory)
    _write(sink, b"")
    while (frame := _read(source)) is not None:
        _limit_time(cpu_seconds)
        answer = work(frame)
        _limit_time(0)
        _write(sink, answer)


def _exchange(process: subprocess.Popen[bytes], frame: bytes) -> bytes | None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _write(process.stdin, frame)
        return _read(process.stdout)
    except OSError:
        return None


def _write(pipe: IO[bytes], frame: bytes) -> None:
    pipe.write(struct.pack("<I", len(frame)) + frame)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    """The next frame, or None when the other side is gone."""
    head = pipe.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack("<I", head)
    frame = pipe.read(size) if size <= MAX_FRAME else b""
    return frame if len(frame) == size else None


def _limit_time(cpu_seconds: float) -> None:
    """Let the system end this process after so much processor time; 0 takes the limit back."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def _limit_memory(memory: int) -> None:
    """Refuse to grow by more than that, where the system can."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as pages:
            used = int(pages.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
