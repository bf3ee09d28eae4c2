"""WebSockets as handlers see them.

A handshake is a request like any other, with ``WEBSOCKET`` for its method: it is recorded, let in or refused by the
same code, with the same words. A handler accepts it and says what goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from starlette.types import ASGIApp
from uvicorn.protocols.utils import ClientDisconnected

from portico.server.http.exchange import Exchange, Receive, Scope, Send

__all__ = ["DRAIN", "SOCKET", "WEBSOCKET", "Socket"]

log = logging.getLogger("portico")

WEBSOCKET = "WEBSOCKET"  # stands for the method of a handshake
SOCKET = "portico.socket"  # in a handshake's scope: its ``Socket``
DRAIN = "portico.drain"  # the type of a message that says that the server is about to end

_RESTART = 1012  # RFC 6455's registry of close codes: the server restarts


class Socket:
    """One WebSocket to ``app``. ``scope`` is what requests that are made for it take over."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self.app = app
        self.scope = scope
        self._receive = receive
        self._send = send
        self._serve: Callable[[], Awaitable[None]] | None = None

    @property
    def handshake(self) -> Scope:
        """The scope of the request that it begins as."""
        return {**self.scope, "type": "http", "method": WEBSOCKET, SOCKET: self}

    async def respond(self, message: MutableMapping[str, Any]) -> None:
        """Send a message of the response that it is refused with."""
        await self._send({**message, "type": f"websocket.{message['type']}"})

    async def accept(self, exchange: Exchange, serve: Callable[[], Awaitable[None]]) -> None:
        """Let it in; once its handshake is over ``serve`` has it until it is closed."""
        exchange.status = 101
        await self._send({"type": "websocket.accept", "headers": exchange.response_headers})
        self._serve = serve

    async def go_on(self) -> None:
        """Serve it, if it was let in."""
        if self._serve is None:
            return
        try:
            await self._serve()
        except Exception:
            log.exception("a WebSocket on %s failed", self.scope["path"])
            await self._told({"type": "websocket.close", "code": 1011, "reason": "The server failed."})

    async def __aiter__(self) -> AsyncIterator[str | None]:
        """The texts that come, until it is closed; None when the server is about to end, and wants it closed soon."""
        await self._receive()  # websocket.connect
        while (message := await self._receive())["type"] != "websocket.disconnect":
            yield None if message["type"] == DRAIN else message.get("text") or ""

    async def send(self, text: bytes) -> None:
        """Send one text; returns when there is room for more, or nobody to take it."""
        await self._told({"type": "websocket.send", "text": text.decode()})

    async def end(self) -> None:
        """Close it, since the server ends."""
        await self._told({"type": "websocket.close", "code": _RESTART, "reason": "The server is shutting down."})

    async def _told(self, message: MutableMapping[str, Any]) -> None:
        try:
            await self._send(message)
        except (ClientDisconnected, RuntimeError):  # it is closed; whoever reads it will know
            pass
