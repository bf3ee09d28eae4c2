"""The HTTP connection: uvicorn's over httptools, with what that leaves open closed.

A request has a size for its head and a time to arrive whole; an answer may not stand still for ever because nobody
reads it. What is refused here never reaches the application, yet its body has the shape of every other error, as far
as the request has told whose client it is from.

No upgrade is taken, neither to WebSockets nor to HTTP/2. Some clients ask for one with every request (Java's does), and
the parser would end the request there: it is read again without the wish.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any
from uuid import uuid4

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from portico.errors import (
    BadRequestError,
    HeadTooLargeError,
    NotSupportedError,
    PorticoError,
    RequestTimeoutError,
)
from portico.protocols.anthropic.ids import request_id
from portico.server.http.refusals import refusal, speaks_anthropic

__all__ = ["connections"]

_ORIGIN = re.compile(rb"\Ahttps?://[^/?#]*", re.IGNORECASE)  # in front of the path, as proxies send it


def connections(*, max_head: int, client_timeout: float) -> Any:
    """What makes a protocol object per connection, for uvicorn's ``http`` setting.

    ``max_head`` bounds the request line and the headers together, in bytes. ``client_timeout`` is in seconds: the time
    for a request to arrive whole, and for an answer to make any progress.
    """
    return partial(Connection, max_head=max_head, client_timeout=client_timeout)


class Connection(HttpToolsProtocol):
    """One client's connection; its requests one after the other."""

    def __init__(self, *args: Any, max_head: int, client_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url, self.headers = b"", []  # until a request begins
        self._max_head = max_head
        self._client_timeout = client_timeout
        self._refusal: PorticoError | None = None  # why a callback stopped the parser
        self._in_head = False
        self._head_size = 0
        self._arriving = False  # a request has begun and is not here as a whole
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    # -- a request arrives --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._reading, self._writing):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
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

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as stopped:
                data = memoryview(data)[stopped.args[0] :]
                head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
                for name, value in self.headers:
                    if name not in (b"upgrade", b"connection"):
                        head += [name, b": ", value, b"\r\n"]
                self.parser = HttpRequestParser(self)
                self.parser.feed_data(b"".join(head) + b"\r\n")

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
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self._max_head:
            self._refusal = self._head_too_large()
            raise self._refusal
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._in_head:  # the request will be read again
            return
        super().on_message_complete()
        self._arriving = False
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _watch_reading(self) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(self._client_timeout, self._too_slow)

    def _too_slow(self) -> None:
        self._reading = None
        if self._arriving:
            seconds = f"{self._client_timeout:g}"
            self._refuse(RequestTimeoutError(f"The request did not arrive within {seconds} seconds."))
        else:
            self.transport.close()

    # -- refusals -----------------------------------------------------------------------------------------------------

    def _head_too_large(self) -> HeadTooLargeError:
        return HeadTooLargeError(f"The request line and headers are over the limit of {self._max_head} bytes.")

    def _refuse(self, error: PorticoError) -> None:
        """Answer with ``error``, unless this or another request is being answered or has been, and close."""
        if self.transport.is_closing():
            return
        cycle = self.cycle  # of this request once its head is complete, else of the one before
        mine = self._arriving and not self._in_head
        if cycle is None or (not cycle.response_started if mine else cycle.response_complete):
            self.transport.write(self._answer(error))
            if cycle is not None:
                cycle.disconnected = True  # nothing may follow this answer
        self.transport.close()
        self._watch_writing()

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
        self._watch_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_writing()

    def _watch_writing(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent and self._writing is None:
            self._writing = self.loop.call_later(self._client_timeout, self._check_progress, unsent)

    def _check_progress(self, before: int) -> None:
        """Cut a connection off that has not taken a byte since the last look."""
        self._writing = None
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent >= before:
            self.transport.abort()
        else:
            self._watch_writing()
