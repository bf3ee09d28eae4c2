"""A connection that takes nothing of what is written to it is cut off."""

from __future__ import annotations

import asyncio

__all__ = ["Progress"]


class Progress:
    """Watches what ``transport`` has not sent yet; after ``timeout`` seconds without a byte of it gone, it aborts."""

    def __init__(self, transport: asyncio.Transport, timeout: float) -> None:
        self._transport = transport
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Something may have been written."""
        unsent = self._transport.get_write_buffer_size()
        if unsent and self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._check, unsent)

    def stop(self) -> None:
        """The connection is closed, or somebody else's."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self, before: int) -> None:
        self._timer = None
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent >= before:
            self._transport.abort()
        else:
            self.watch()
