"""The last requests, as traces: a ring of bounded size. What falls out of it is gone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from portico.trace.artifacts import Head
from portico.trace.record import Clock
from portico.trace.trace import Trace

__all__ = ["Recorder"]

MAX_BYTES = 256 << 20  # of all traces together, as ``Trace.size`` counts

Listener = Callable[[Head], None]


class Recorder:
    """Keeps the last ``keep`` traces. ``redact``: texts, tokens and bodies are never recorded, only their sizes.

    ``clock`` gives seconds that only ever grow, ``now`` Unix time.
    """

    def __init__(
        self,
        clock: Clock,
        now: Clock,
        *,
        keep: int = 200,
        redact: bool = False,
    ) -> None:
        self._clock, self._now = clock, now
        self._keep = keep
        self._redact = redact
        self._traces: dict[str, Trace] = {}  # oldest first
        self._listeners: dict[object, Listener] = {}

    def begin(self, request_id: str, method: str, path: str, headers: Mapping[bytes, bytes], began: float) -> Trace:
        """The trace of a request whose head came at ``began`` (the clock's time)."""
        head = Head(
            id=f"tr_{secrets.token_hex(8)}",
            request_id=request_id,
            method=method,
            path=path,
            began=self._now() - (self._clock() - began),
            redacted=self._redact,
        )
        trace = Trace(head, self._clock, began, self._tell)
        trace.requested(headers)
        self._traces[head.id] = trace
        self._forget()
        self._tell(head)
        return trace

    def _forget(self) -> None:
        """Drop what is over the bounds, the oldest first; the newest stays whatever it holds."""
        total = sum(trace.size for trace in self._traces.values())
        for id, trace in list(self._traces.items())[:-1]:
            if len(self._traces) <= self._keep and total <= MAX_BYTES:
                return
            total -= trace.size
            del self._traces[id]

    @property
    def traces(self) -> list[Trace]:
        """The traces that are kept, the newest first."""
        return list(reversed(self._traces.values()))

    @property
    def heads(self) -> list[Head]:
        """Every trace in one line, the newest first."""
        return [trace.head for trace in self.traces]

    def get(self, id: str) -> Trace | None:
        """The trace of that id, or of the newest request with that id; None where it is gone or never was."""
        found = self._traces.get(id)
        if found is None:
            same = (trace for trace in reversed(self._traces.values()) if trace.head.request_id == id)
            found = next(same, None)
        return found

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with the head of any trace that begins or changes; returns what ends that."""
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None) and None

    def _tell(self, head: Head) -> None:
        for listener in list(self._listeners.values()):
            listener(head)
