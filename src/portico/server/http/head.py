"""The head of a response leaves together with what follows it: one write to the socket in place of two."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["HeldHead"]

INTERIM = b"HTTP/1.1 1"  # the beginning of what is no head of a response yet


class HeldHead:
    """Stands in for the transport of ``cycle`` until its response has begun to leave, which is at the latest when the
    event loop has had its turn."""

    __slots__ = ("_cycle", "_head", "_later", "_transport")

    def __init__(self, cycle: RequestResponseCycle, transport: asyncio.Transport) -> None:
        self._cycle = cycle
        self._transport = transport
        self._head = b""
        self._later: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        """The head, which is kept, or what follows it."""
        if self._later is not None:
            self._leave(data)
        elif data.startswith(INTERIM):
            self._transport.write(data)
        else:
            self._head = data
            self._later = asyncio.get_running_loop().call_soon(self._leave)

    def is_closing(self) -> bool:
        """Whether the transport is."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the transport, once all has been given to it."""
        if self._later is not None:
            self._leave()
        self._transport.close()

    def _leave(self, more: bytes = b"") -> None:
        assert self._later is not None
        self._later.cancel()
        self._later = None
        self._cycle.transport = self._transport
        self._transport.write(self._head + more)
