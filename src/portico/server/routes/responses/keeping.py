"""A sink between the line and where an answer goes: what ends is kept before its end is told.

An answer may also go on when a generation ends, where this server runs the tools that the model has called.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from portico.errors import CancelledError, PorticoError, StoreError
from portico.generation import Delta
from portico.protocols.responses.stream import Answer
from portico.server.line.endings import Endings
from portico.server.line.flight import Sink

__all__ = ["Keeping"]

log = logging.getLogger("portico")


class Keeping:
    """Passes deltas on to ``sink``. At the end it awaits ``keep``, then tells it.

    ``go_on`` takes the answer up with another generation, and says whether it did. ``stop`` ends what the engine makes
    of it now. All of it is work of ``endings``.
    """

    def __init__(
        self,
        answer: Answer,
        sink: Sink,
        endings: Endings,
        keep: Callable[[Answer], Awaitable[None]] | None,
        go_on: Callable[[Keeping], Awaitable[bool]] | None = None,
    ) -> None:
        self._answer = answer
        self._sink = sink
        self._endings = endings
        self._keep = keep
        self._go_on = go_on
        self._ending: asyncio.Task[None] | None = None
        self.stop: Callable[[], None] = lambda: None
        self.feed, self.flush = sink.feed, sink.flush  # as they are: a call more per event would be felt

    @property
    def stalled(self) -> bool:
        """As the sink behind it."""
        return self._sink.stalled

    def tell(self) -> None:
        """Events have come of which no delta tells."""
        self._sink.feed(Delta(0, [], ()), 0)
        self._sink.flush()

    def abort(self) -> None:
        """Nothing more is to be made: no generation, no call of a tool."""
        if self._ending is not None:
            self._ending.cancel()
        self.stop()

    def keep_alive(self) -> None:
        """Nothing may have been written for a while."""
        self._sink.keep_alive()

    def finish(self) -> None:
        """The generation is finished."""
        if self._keep is None and not self._answer.server_calls:
            self._sink.finish()
        else:
            self._start(None)

    def fail(self, error: PorticoError) -> None:
        """The answer ends with an error."""
        if self._answer.over:
            return
        if self._keep is None:
            self._sink.fail(error)
        else:
            self._start(error)

    async def cancelled(self) -> None:
        """Nobody waits for it any more: keep what there is."""
        if not self._answer.over:
            self.abort()
            self._answer.settle(CancelledError("The client has gone."))
            await self._kept()

    def _start(self, error: PorticoError | None) -> None:
        self._ending = self._endings.begin(self._end(error))

    async def _end(self, error: PorticoError | None) -> None:
        try:
            if error is None and self._answer.server_calls and self._go_on is not None and await self._go_on(self):
                return
        except PorticoError as raised:
            error = raised
        except Exception:
            log.exception("a response could not go on")
            error = PorticoError("The server failed on this request; the error has been logged.")
        self._answer.settle(error)
        await self._kept()
        if error is None:
            self._sink.finish()
        else:
            self._sink.fail(error)
        self._sink.flush()

    async def _kept(self) -> None:
        if self._keep is None:
            return
        try:
            await self._keep(self._answer)
        except Exception as error:  # its end is told, whatever happens here
            known = isinstance(error, StoreError)
            log.error("response %s could not be kept: %s", self._answer.response["id"], error, exc_info=not known)
            self._answer.not_kept()
