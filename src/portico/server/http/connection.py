"""The HTTP connection: uvicorn's over httptools, with what that leaves open closed.

A request has a size for its head and a time to arrive whole, which a body that keeps its pace may exceed; an answer may
not stand still for ever because nobody reads it. What is refused here never reaches the application, yet its body has
the shape of every other error, as far as the request has told whose client it is from.

A request that is here as a whole is answered, whatever its client sends behind it, or closes.

A handshake that is all there becomes a WebSocket's connection. No other upgrade is taken: some clients ask for HTTP/2
with every request (Java's does), and the parser would end the request there: it is read again without the wish.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any
from uuid import uuid4

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from portico.errors import (
    BadRequestError,
    HeadTooLargeError,
    NotSupportedError,
    PorticoError,
    RequestTimeoutError,
)
from portico.protocols.anthropic.ids import request_id
from portico.server.http.head import HeldHead
from portico.server.http.progress import Progress
from portico.server.http.refusals import refusal, speaks_anthropic
from portico.server.http.socket_connection import SocketConnection, Unfinished, wanted

__all__ = ["connections"]

HALF_CLOSED = 1.0  # seconds after a request in which the end of what a client sends may not be the client's end
PACE = 16 << 10  # bytes a second at which a body may take longer than the client's timeout
LINGER = 1.0  # seconds in which a refused client may read why; what it still sends is thrown away
UNFINISHED = 4  # of the largest messages, in memory at a time

_ORIGIN = re.compile(rb"\Ahttps?://[^/?#]*", re.IGNORECASE)  # in front of the path, as proxies send it


def connections(*, max_head: int, max_body: int, client_timeout: float) -> Any:
    """What makes a protocol object per connection, for uvicorn's ``http`` setting.

    ``max_head`` bounds the request line and the headers together, ``max_body`` one message of a WebSocket, in bytes.
    ``client_timeout`` is in seconds: the time for a request to arrive whole, and for an answer to make any progress.
    """
    unfinished = Unfinished(UNFINISHED * max_body)
    socket = partial(SocketConnection, max_message=max_body, client_timeout=client_timeout, unfinished=unfinished)
    return partial(Connection, socket=socket, max_head=max_head, client_timeout=client_timeout)


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(HttpToolsProtocol):
    """One client's connection; its requests one after the other.

    Attributes of its own are slots: with more than thirty in all, every object would have a dictionary for itself.
    """

    __slots__ = (
        *("_arrived", "_arriving", "_client_timeout", "_deaf", "_ending", "_head_size", "_in_head", "_max_head"),
        *("_probing", "_progress", "_reading", "_received", "_refusal", "_socket", "_unanswered"),
    )

    def __init__(
        self,
        *args: Any,
        socket: Callable[..., SocketConnection],
        max_head: int,
        client_timeout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.url, self.headers = b"", []  # until a request begins
        self._socket = socket
        self._max_head = max_head
        self._client_timeout = client_timeout
        self._refusal: PorticoError | None = None  # why a callback stopped the parser
        self._in_head = False
        self._head_size = 0
        self._received = 0  # bytes since it is waited for a request
        self._ending = False  # the server
        self._arriving = False  # a request has begun and is not here as a whole
        self._arrived = 0.0  # when the last request was here as a whole, in the loop's time
        self._unanswered: list[RequestResponseCycle] = []  # the first is being answered
        self._deaf = False  # nothing that comes matters any more
        self._probing: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._progress: Progress

    # -- a request arrives --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._progress = Progress(transport, self._client_timeout)
        self._watch_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timers()

    def _stop_timers(self) -> None:
        self._progress.stop()
        for timer in (self._reading, self._probing):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._received += len(data)
        try:
            self._parse(data)
        except (HttpParserError, PorticoError):
            self._refuse(self._refusal or BadRequestError("This is not a valid HTTP/1.1 request.", code="invalid_http"))
            return
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > self._max_head:
                self._refuse(self._head_too_large())
                return
        idle = self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete)
        if self._arriving or idle:
            self._watch_reading()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. One that has just asked may still want the answer: it is sent, then all is closed.

        A client that is gone altogether looks the same until something is written to it.
        """
        self._drop_unfinished()
        if not self._unanswered or self.loop.time() - self._arrived > HALF_CLOSED:
            return False
        self._deaf = True
        self._unanswered[-1].keep_alive = False
        self._probe()
        return True

    def _probe(self) -> None:
        """Find out whether a half-closed client is there: an interim response, which means nothing, reaches it."""
        if self._probing is not None and self._unanswered:
            cycle = self._unanswered[0]
            if not cycle.response_started and cycle.scope["http_version"] != "1.0":
                self.transport.write(CONTINUE)
        self._probing = self.loop.call_later(HALF_CLOSED, self._probe)

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as stopped:
                data = memoryview(data)[stopped.args[0] :]
                key = wanted(self.url, self.headers) if self._may_become_a_socket() else None
                if key is not None and not data:
                    self._become_a_socket(key)
                    return
                version = self.parser.get_http_version().encode("ascii")
                head = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
                for name, value in self.headers:
                    if name == b"connection":
                        value = b",".join(one for one in value.split(b",") if one.strip().lower() != b"upgrade")
                    if name != b"upgrade":
                        head += [name, b": ", value, b"\r\n"]
                self.parser = HttpRequestParser(self)
                self.parser.feed_data(b"".join(head) + b"\r\n")

    def _may_become_a_socket(self) -> bool:
        return not self._unanswered and self.parser.get_method() == b"GET"

    def _become_a_socket(self, key: bytes) -> None:
        self._check_head()
        self._stop_timers()
        self._deaf = True
        self.connections.discard(self)
        socket = self._socket(self.config, self.server_state, self.app_state)
        socket.take_over(self.transport, self.url, key, self.headers)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving = self._in_head = True
        self._head_size = 0

    def on_headers_complete(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            self._refusal = NotSupportedError("This server is no proxy.")
            raise self._refusal
        if self.parser.should_upgrade():
            return
        version = self._check_head()
        self._in_head = False
        super().on_headers_complete()
        self._unanswered.append(self.cycle)
        self.cycle.transport = HeldHead(self.cycle, self.transport)  # type: ignore[assignment]
        if version == "1.0":
            self.cycle.send = partial(_send_to_the_end, self.cycle)  # type: ignore[method-assign]

    def _check_head(self) -> str:
        """The version of HTTP. Raises where the head is too large or not a valid one."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self._max_head:
            self._refusal = self._head_too_large()
            raise self._refusal
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts):
            wrong = "HTTP/1.1 with one Host header" if version in ("1.0", "1.1") else "HTTP/1.1"
            self._refusal = BadRequestError(f"This is not a valid request: send {wrong}.", code="invalid_http")
            raise self._refusal
        return version

    def on_message_complete(self) -> None:
        if self._in_head:  # the request will be read again
            return
        super().on_message_complete()
        self._arriving = False
        self._arrived = self.loop.time()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _watch_reading(self) -> None:
        if self._reading is None:
            self._received = 0
            self._reading = self.loop.call_later(self._client_timeout, self._too_slow)

    def _too_slow(self) -> None:
        self._reading = None
        if self._keeps_its_pace():
            self._watch_reading()
        elif self._arriving:
            seconds = f"{self._client_timeout:g}"
            self._refuse(RequestTimeoutError(f"The request did not arrive within {seconds} seconds."))
        else:
            self.transport.close()

    def _keeps_its_pace(self) -> bool:
        """Whether a body arrives that is large, not slow, and still wanted."""
        wanted = self._arriving and not (self._in_head or self._ending or self.cycle.response_complete)
        return wanted and self._received >= PACE * self._client_timeout

    def shutdown(self) -> None:
        super().shutdown()
        self._ending = True
        if self.transport.is_closing():
            self.loop.call_later(LINGER, self._hang_up)

    def _hang_up(self) -> None:
        """Over TLS, a client's goodbye is waited for: half a minute, where it looks at its idle connections never."""
        if self in self.connections and not self.transport.get_write_buffer_size():
            self.transport.abort()

    # -- refusals -----------------------------------------------------------------------------------------------------

    def _head_too_large(self) -> HeadTooLargeError:
        return HeadTooLargeError(f"The request line and headers are over the limit of {self._max_head} bytes.")

    def _refuse(self, error: PorticoError) -> None:
        """Answer with ``error`` and close; where requests before this one wait for answers, close behind those."""
        if self.transport.is_closing() or self._deaf:
            return
        self._deaf = True
        if self._drop_unfinished():
            self.transport.close()
            return
        if self._unanswered:
            self._unanswered[-1].keep_alive = False
            return
        self.transport.write(self._answer(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()  # to close at once would take the answer away from a client that still sends
            self.loop.call_later(LINGER, self.transport.close)
        else:
            self.transport.close()
        self._progress.watch()

    def _drop_unfinished(self) -> bool:
        """Forget the request that is not here as a whole; returns whether it has been answered all the same."""
        if not self._arriving or self._in_head:
            return False
        if not self._unanswered:
            return True
        unfinished = self._unanswered.pop()
        unfinished.disconnected = True  # nothing may follow what is said instead
        unfinished.message_event.set()
        if self.pipeline and self.pipeline[0][0] is unfinished:
            self.pipeline.popleft()
        return unfinished.response_started

    def _answer(self, error: PorticoError) -> bytes:
        """The response, whole. The request may have told its path, or not; the connection may have had one before."""
        path = _ORIGIN.sub(b"", self.url, count=1).decode("latin-1")
        anthropic = speaks_anthropic(path, [name for name, _ in self.headers])
        id = uuid4().hex
        status, body = refusal(error, id, anthropic=anthropic)
        head = STATUS_LINE.get(status, STATUS_LINE[400]) + b"content-type: application/json\r\n"
        if anthropic:
            head += b"request-id: %b\r\n" % request_id(id).encode()
        return head + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body

    # -- an answer leaves ---------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._progress.watch()

    def on_response_complete(self) -> None:
        if self._unanswered:
            del self._unanswered[0]
        super().on_response_complete()
        self._progress.watch()


async def _send_to_the_end(cycle: RequestResponseCycle, message: MutableMapping[str, Any]) -> None:
    """``cycle.send`` for HTTP/1.0, which has no chunks: a body of unknown length ends with the connection."""
    if message["type"] == "http.response.start":
        if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
            cycle.chunked_encoding = False
            cycle.expected_content_length = -1
    elif cycle.expected_content_length == -1:
        size = len(message.get("body", b""))
        cycle.expected_content_length = size if cycle.scope["method"] != "HEAD" else 0
        await RequestResponseCycle.send(cycle, message)  # type: ignore[arg-type]
        if message.get("more_body", False):
            cycle.expected_content_length = -1
        return
    await RequestResponseCycle.send(cycle, message)  # type: ignore[arg-type]
