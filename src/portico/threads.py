"""Work that takes long and cannot be awaited, away from the event loop: a few threads, and a queue that is fair.

Rules
    * Who waits is bounded: with the queue full, the caller with most works in it gives way, and that is told with 503.
    * Callers are served in turn, so one that sends much keeps nobody else waiting. Who is calling is said by
      ``CALLER``, which a server sets to the owner of what the API key makes.
    * When nobody awaits a work any more (its task was cancelled because the client is gone), it is left out if it has
      not begun, and ends at its next ``checkpoint()`` if it has.
    * No thread keeps the process alive.
    * Works that cost less together than one by one may be taken together (``together``): all that wait, up to ``MOST``.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Generic, TypeAlias, TypeVar

from portico.errors import OverloadedError

__all__ = ["CALLER", "MOST", "AbandonedError", "Threads", "checkpoint"]

CALLER: ContextVar[str] = ContextVar("caller", default="")  # in whose turn the works of this task stand

# Python code in a thread holds the interpreter lock; a loop that wants it waits for a whole switch interval, 5 ms by
# default and more in practice (docs/performance.md).
SWITCH_INTERVAL = 0.001  # seconds

MOST = 64  # works that are done together

Result = TypeVar("Result")
Together: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]  # works -> what each returned, or its exception


class AbandonedError(Exception):
    """Nobody waits for this work any more."""


class _Here(threading.local):
    work: _Work[Any] | None = None


_here = _Here()


def checkpoint() -> None:
    """For works of some length, now and then: raises ``AbandonedError`` when nobody waits for this thread's work."""
    if _here.work is not None and _here.work.abandoned:
        raise AbandonedError


class _Work(Generic[Result]):
    def __init__(self, function: Callable[..., Result]) -> None:
        self.function = function
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Result] = self.loop.create_future()
        self.abandoned = False

    def do(self) -> None:
        """In a thread: do it, unless it is abandoned, and tell the loop."""
        if self.abandoned:
            return
        _here.work = self
        try:
            result = self.function()
        except AbandonedError:
            return
        except BaseException as error:
            self.tell(self.fail, error)
        else:
            self.tell(self.finish, result)
        finally:
            _here.work = None

    def outcome(self, what: Any) -> None:
        """In a thread: it was done with others, and came to this."""
        self.tell(self.fail if isinstance(what, BaseException) else self.finish, what)

    def tell(self, how: Callable[[Any], None], what: object) -> None:
        try:
            self.loop.call_soon_threadsafe(how, what)
        except RuntimeError:  # the loop has ended meanwhile
            self.abandoned = True

    def finish(self, result: Result) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Threads:
    """At most ``count`` works at a time, at most ``waiting`` more in the queue; threads start when first needed.

    With ``together`` a work is whatever that knows how to do, and never raises for.
    """

    def __init__(self, name: str, count: int, *, waiting: int = 256, together: Together | None = None) -> None:
        self.name = name
        self.count = count
        self.waiting = waiting
        self._together = together
        self._started = 0
        self._idle = 0
        self._left = False  # whether somebody has left the queue since it was looked through
        self._queues: OrderedDict[str, deque[_Work[Any]]] = OrderedDict()  # by caller, whose turn it is first
        self._changed = threading.Condition()

    async def run(self, function: Callable[..., Result]) -> Result:
        """What ``function`` returns or raises, from a thread. Raises ``OverloadedError`` where too many wait."""
        work = _Work(function)
        self._put(work, CALLER.get())
        try:
            return await work.future
        except asyncio.CancelledError:
            self._left = True
            raise
        finally:
            work.abandoned = True

    def _put(self, work: _Work[Any], caller: str) -> None:
        with self._changed:
            if self._left:
                self._left = False
                self._drop_abandoned()
            mine = self._queues.setdefault(caller, deque())
            mine.append(work)
            free = self._idle + self.count - self._started
            if (queued := sum(map(len, self._queues.values()))) > self.waiting + free:
                longest = max(self._queues.values(), key=len)
                refused = (mine if len(mine) == len(longest) else longest).pop()
                refused.tell(refused.fail, OverloadedError("Too much such work is waiting; try again.", retry_after=1))
                if not mine:
                    del self._queues[caller]
            if queued > self._idle and self._started < self.count:
                self._started += 1
                sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
                threading.Thread(target=self._serve, name=f"{self.name}-{self._started}", daemon=True).start()
            self._changed.notify()

    def _drop_abandoned(self) -> None:
        for caller, queue in list(self._queues.items()):
            if any(work.abandoned for work in queue):
                kept = deque(work for work in queue if not work.abandoned)
                self._queues[caller] = kept
                if not kept:
                    del self._queues[caller]

    def _serve(self) -> None:
        while True:
            if self._together is None:
                self._take(1)[0].do()
            elif works := [work for work in self._take(MOST) if not work.abandoned]:
                for work, outcome in zip(works, self._together([one.function for one in works]), strict=True):
                    work.outcome(outcome)

    def _take(self, most: int) -> list[_Work[Any]]:
        """The next works: of the caller whose turn it is, who then goes to the end of the line."""
        found: list[_Work[Any]] = []
        with self._changed:
            self._idle += 1
            while not self._queues:
                self._changed.wait()
            self._idle -= 1
            while self._queues and len(found) < most:
                caller, queue = self._queues.popitem(last=False)
                found.append(queue.popleft())
                if queue:
                    self._queues[caller] = queue
        return found
