"""SIGTERM and SIGINT begin a drain: requests in flight get ``drain_timeout`` seconds, then an in-band error, while who
comes is told to go elsewhere and probes are answered. A second signal ends at once.
"""

from __future__ import annotations

import asyncio
import logging
from types import FrameType

import uvicorn

from portico.errors import OverloadedError
from portico.server.batches.runner import Runner
from portico.server.line.served import Served
from portico.server.process import systemd

__all__ = ["DrainingServer"]

log = logging.getLogger("portico")


class DrainingServer(uvicorn.Server):
    """Uvicorn, with a drain that tells streams why they end."""

    def __init__(self, config: uvicorn.Config, served: Served, drain_timeout: float, batches: Runner | None) -> None:
        super().__init__(config)
        self._served = served
        self._batches = batches
        self._drain_timeout = drain_timeout
        self._loop = asyncio.get_running_loop()
        self._told = False  # to end
        self._end = 0.0  # of the drain, in the loop's time

    def time_left(self) -> float:
        """Seconds of the drain that are left, and one for what was cut off to be told."""
        return max(0.0, self._end - self._loop.time()) + 1.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Uvicorn would raise the signal again when done and die of it; a drained server ends with status 0."""
        again, self._told = self._told, True
        self.should_exit = self.force_exit = again
        systemd.notify("STOPPING=1")
        self._loop.call_soon_threadsafe(self._cut_off if again else self._drain)

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's, ten times a second; a drain accepts connections as long as anything is in flight."""
        if self._end and not self._served.in_flight:
            self.should_exit = True
        return await super().on_tick(counter)

    def _drain(self) -> None:
        if self._batches is not None:
            self._batches.stop()
        working = self._served.in_flight
        if working:
            log.warning("stopping: %d requests get %g s to finish", working, self._drain_timeout)
        self._served.drain()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # after its answer: whoever keeps connections should not come back here
        self._end = self._loop.time() + self._drain_timeout
        self._loop.call_at(self._end, self._cut_off)

    def _cut_off(self) -> None:
        self._end = self._loop.time()
        self._served.fail_all(OverloadedError("The server is shutting down.", code="shutting_down", retry_after=1))
