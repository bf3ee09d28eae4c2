"""Python processes that do one kind of work, may be killed while they do, and are replaced when they were.

For work that a client can make arbitrarily long and that cannot be interrupted from inside: native code, a single
step of an interpreter. A question and its answer are values that MessagePack holds, so nothing that a child sends can
run code here; they travel as length-prefixed frames over its standard input and output. A ``BadRequestError`` that the
child raises is raised here. The child sees almost none of the environment, may not grow without bound where the system
can hold it to that, and ends when its standard input does: with its parent, however that ends.

    parent                                      child: python -m some.module
    children = Children("some.module", Answer)  answer_questions(work, Question, cpu_seconds=1, memory=...)
    children.ask(question) -> Answer or None    work(question) -> Answer
"""

from __future__ import annotations

import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, Generic, TypeVar

import msgspec

from portico.errors import BadRequestError, OverloadedError

__all__ = ["Children", "answer_questions"]

MAX_FRAME = 256 * 1024 * 1024
PASSED_ON = ("PATH", "PYTHONPATH", "SYSTEMROOT", "TZ")  # all of the environment that a child sees

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class _Reply(msgspec.Struct):
    """What a child found: an answer, or why there is none (message, param, code)."""

    answer: msgspec.Raw = msgspec.Raw(b"\xc0")
    refusal: tuple[str, str | None, str | None] | None = None


class Children(Generic[Answer]):
    """The parent's side of ``count`` processes that all do the same. ``ask`` blocks; any thread may call it.

    ``greeting`` is the first value that every new process gets: starting does not count against ``seconds``, the
    wall-clock time of one question. Processes start with the first questions that need them.
    """

    def __init__(
        self, module: str, answers: type[Answer], *, seconds: float, greeting: object = None, count: int = 1
    ) -> None:
        first = msgspec.msgpack.encode(greeting)
        self._answers = answers
        self._all = [_Child(module, seconds, first) for _ in range(count)]
        self._idle: queue.LifoQueue[_Child] = queue.LifoQueue()  # the last one used is asked first: it runs already
        for child in reversed(self._all):
            self._idle.put(child)

    @property
    def pids(self) -> list[int]:
        """The processes now running."""
        return [child.pid for child in self._all if child.pid is not None]

    @property
    def idle(self) -> int:
        """How many are free to be asked, running or not."""
        return self._idle.qsize()

    def start(self) -> None:
        """Have one process ready for the first question; raises ``OSError`` if it cannot be started."""
        self._all[0].start()

    def ask(self, question: object) -> Answer | None:
        """The answer; None when the child died over it, or took more of the processor than it may. Raises what the
        child refused with, and ``OverloadedError`` when the time was over before, which is no fault of the question."""
        child = self._idle.get()
        try:
            frame = child.ask(msgspec.msgpack.encode(question))
        finally:
            self._idle.put(child)
        if frame is None:
            return None
        reply = msgspec.msgpack.decode(frame, type=_Reply)
        if reply.refusal is not None:
            message, param, code = reply.refusal
            raise BadRequestError(message, param=param, code=code)
        return msgspec.msgpack.decode(reply.answer, type=self._answers)

    def close(self) -> None:
        """End the processes; idempotent. The next question would start another."""
        for child in self._all:
            child.close()


def answer_questions(
    work: Callable[[Question], object],
    questions: type[Question],
    *,
    greet: Callable[[Any], None] | None = None,
    greetings: Any = Any,
    cpu_seconds: float,
    memory: int,
) -> None:
    """The child's side: answer ``questions`` until the parent is gone.

    ``greet`` takes the greeting, of type ``greetings``. A question that needs more than ``cpu_seconds`` of processor
    time ends the process, by the system's own timer, so also out of native code; so does growing by more than
    ``memory`` bytes of address space once greeted.
    """
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    greeting = _read(source)
    if greeting is None:
        return
    if greet is not None:
        greet(msgspec.msgpack.decode(greeting, type=greetings))
    _limit_memory(memory)
    _write(sink, b"")
    while (frame := _read(source)) is not None:
        _limit_time(cpu_seconds)
        try:
            reply = _Reply(msgspec.Raw(msgspec.msgpack.encode(work(msgspec.msgpack.decode(frame, type=questions)))))
        except BadRequestError as error:
            reply = _Reply(refusal=(error.message, error.param, error.code))
        _limit_time(0)
        _write(sink, msgspec.msgpack.encode(reply))


# -- one process, and frames of bytes ---------------------------------------------------------------------------------


class _Child:
    """One process. The first frame that it gets is the greeting, answered with an empty one when it is ready."""

    def __init__(self, module: str, seconds: float, greeting: bytes) -> None:
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
        with self._lock:
            self._ready()

    def ask(self, frame: bytes) -> bytes | None:
        """The answering frame; None when the process died over it. Raises ``OverloadedError`` when it was not given the
        processor for long enough to do either."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        with self._lock:
            process = self._ready()
            timer = threading.Timer(self.seconds, kill)
            timer.daemon = True
            timer.start()
            try:
                answer = _exchange(process, frame)
            finally:
                timer.cancel()
            if answer is None:
                self._stop()
                if late.is_set():
                    raise OverloadedError(
                        "This machine is too busy to look at the request now; try again.", retry_after=5
                    )
            return answer

    def close(self) -> None:
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
