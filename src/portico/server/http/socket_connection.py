"""The connection of a WebSocket: uvicorn's over websockets' state machine, with what that leaves open closed.

It begins as an HTTP connection, which has read and bounded the head of the handshake. A message has a size and a time
to arrive whole, the unfinished messages of all sockets have a size together, and a client that takes nothing of what is
written to it is cut off. Nothing is compressed: a few bytes would become many here.

Uvicorn reads on when the application has taken what came, so an application that always takes it sees a client go.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.server import ServerProtocol

from portico.server.http.progress import Progress
from portico.server.http.sockets import DRAIN

__all__ = ["SocketConnection", "Unfinished", "wanted"]

MOST_FRAGMENTS = 1 << 14  # pieces of one message
CLOSING = 2.0  # seconds for a client to say that it has seen the end
_LONGEST_TARGET = 4096  # characters

_TARGET = re.compile(rb"/[!-~]*")
_POLICY, _LATER = 1008, 1013  # RFC 6455's registry of close codes: a rule is broken; try again later

Headers = Sequence[tuple[bytes, bytes]]


def wanted(target: bytes, headers: Headers) -> bytes | None:
    """The key of a handshake that asks for a WebSocket in full (RFC 6455, section 4.1); None for any other request."""
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in values and name.startswith(b"sec-websocket-"):
            return None
        values[name] = value
    options = [option.strip() for option in values.get(b"connection", b"").lower().split(b",")]
    if values.get(b"upgrade", b"").lower() != b"websocket" or b"upgrade" not in options:
        return None
    key = values.get(b"sec-websocket-key", b"")
    try:
        complete = len(base64.b64decode(key, validate=True)) == 16 and values.get(b"sec-websocket-version") == b"13"
    except binascii.Error:
        return None
    return key if complete and len(target) <= _LONGEST_TARGET and _TARGET.fullmatch(target) else None


class Unfinished:
    """Bytes of messages that are not here as a whole: at most ``most``; when it is more, the largest gives way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._sizes: dict[SocketConnection, int] = {}

    def hold(self, connection: SocketConnection, size: int) -> None:
        """So many bytes are held for this connection now."""
        self._size += size - self._sizes.pop(connection, 0)
        if size:
            self._sizes[connection] = size
        if self._size > self._most:
            largest = max(self._sizes, key=self._sizes.__getitem__)
            self._size -= self._sizes.pop(largest)
            largest.give_up(_LATER, "Too many large messages are arriving; try again.")


class SocketConnection(WebSocketsSansIOProtocol):
    """One client's socket."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        max_message: int,
        client_timeout: float,
        unfinished: Unfinished,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.conn = ServerProtocol(max_size=max_message, logger=self.logger)
        self.ping_timeout = self._client_timeout = client_timeout
        self.close_timeout = CLOSING
        self._headers: Headers = ()
        self._unfinished = unfinished
        self._size = 0  # of the message that is arriving
        self._arriving: asyncio.TimerHandle | None = None
        self._deaf = False  # nothing that comes matters any more
        self._progress: Progress

    def take_over(self, transport: asyncio.Transport, target: bytes, key: bytes, headers: Headers) -> None:
        """Go on with a connection on which the handshake of these headers has come."""
        self._progress = Progress(transport, self._client_timeout)
        self._headers = headers
        self.connection_made(transport)
        wish = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key
        super().data_received(b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % (target, wish))
        transport.set_protocol(self)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        self.scope["headers"] = self._headers  # those that came, not the few that the state machine was shown

    def shutdown(self) -> None:
        """The server ends: whoever serves the socket ends it when its answers are complete."""
        drain: Any = {"type": DRAIN}
        self.queue.put_nowait(drain)

    # -- messages arrive ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not self.handshake_complete:  # RFC 6455, section 4.1: a client has to wait for the answer
            self.transport.abort()
            return
        if self._deaf:
            return
        super().data_received(data)
        self._size = self._size + len(data) if self.frames or self.conn.reader.buffer else 0
        self._unfinished.hold(self, self._size)
        if not self._size:
            self._arrived()
        elif self._arriving is None:
            self._arriving = self.loop.call_later(self._client_timeout, self._too_slow)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MOST_FRAGMENTS:
            self.give_up(_POLICY, f"A message may have at most {MOST_FRAGMENTS} pieces.")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        super().send_receive_event_to_app()
        self._size = 0
        self._arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unfinished.hold(self, 0)
        self._arrived()
        self._progress.stop()

    def give_up(self, code: int, reason: str) -> None:
        """Close it, telling the client why."""
        if not self.transport.is_closing() and self.conn.close_sent is None:
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """A close frame says what is wrong. To close at once would take it away from a client that still sends."""
        self._deaf = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.close_timer = self.loop.call_later(CLOSING, self.transport.close)
        self._progress.watch()

    def _arrived(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _too_slow(self) -> None:
        self.give_up(_POLICY, f"The message did not arrive within {self._client_timeout:g} seconds.")

    # -- answers leave ------------------------------------------------------------------------------------------------

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # it is refused; uvicorn would take it for forgotten
        self._progress.watch()
