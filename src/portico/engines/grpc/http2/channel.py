"""The way to one address: connections made when they are needed, and where calls begin.

- There is one connection. One that is full, or is told to go, gets no further calls, and another takes its place; it is
  closed when its calls have ended.
- One that has said nothing for ``LOOK_SECONDS`` is pinged; when it does not answer that either, the other end is gone
  without a word, and its calls end as those of a connection that breaks.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Iterable
from typing import Final, cast

from portico import __version__
from portico.engines.grpc.http2.call import Call, framed
from portico.engines.grpc.http2.connection import Connection
from portico.engines.grpc.http2.fields import encode
from portico.engines.grpc.http2.frames import Broken, Code
from portico.engines.grpc.http2.status import RpcError

__all__ = ["Channel"]

CONNECT_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 5.0
LINGER_SECONDS: Final = 1.0  # that a peer gets to take our last words
_ROOTS: Final = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"  # what gRPC's own clients trust


class Channel:
    """``address`` is ``host:port``; ``secure`` speaks TLS, trusting the system's roots or those that gRPC's own
    variable names. ``fields`` go with every call. ``after_read`` is called when all that a read brought has been handed
    on, and when calls were lost. Raises ``ValueError`` for fields that cannot be sent."""

    def __init__(
        self,
        address: str,
        *,
        fields: Iterable[tuple[str, str]] = (),
        secure: bool = False,
        after_read: Callable[[], None] = lambda: None,
    ) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._tls = _trusting() if secure else None
        self._after_read = after_read
        self._common = encode(
            [
                (":method", "POST"),
                (":scheme", "https" if secure else "http"),
                (":authority", address),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", f"portico/{__version__}"),
            ]
        )
        self._own = encode(fields)
        self._sockets: set[_Socket] = set()
        self._current: _Socket | None = None
        self._connecting: asyncio.Task[_Socket] | None = None

    async def begin(
        self,
        call: Call,
        method: str,
        message: bytes | None = None,
        *,
        fields: Iterable[tuple[str, str]] = (),
        ends: bool = True,
    ) -> None:
        """Begin ``call`` of ``method`` (``/service/name``) with a first message; ``ends``: it is the only one. Raises
        ``RpcError`` (UNAVAILABLE) where there is no connection."""
        block = self._common + encode([(":path", method)]) + self._own + encode(fields)
        socket = self._current
        if socket is None or socket.connection.full:
            socket = await self._connected()
        call.begin(socket.connection, block, b"" if message is None else framed(message), ends=ends)

    async def ask(self, method: str, message: bytes, *, seconds: float | None, most: int = 64 << 20) -> list[bytes]:
        """The messages of the answer to one. Raises ``RpcError``: DEADLINE_EXCEEDED when it is not complete after so
        many ``seconds``, RESOURCE_EXHAUSTED when it has more than ``most`` bytes."""
        call = _Asked(most)
        fields = [] if seconds is None else [("grpc-timeout", f"{int(seconds * 1000)}m")]
        try:
            async with asyncio.timeout(seconds):
                await self.begin(call, method, message, fields=fields)
                return await call.answer
        except TimeoutError:
            raise RpcError("DEADLINE_EXCEEDED", "There was no answer in time.") from None
        finally:
            call.cancel()

    def drop(self, why: str) -> None:
        """End all connections, and the calls on them as lost; calls that begin later get a new one."""
        for socket in list(self._sockets):
            socket.end(Code.NO_ERROR, why)

    async def close(self) -> None:
        """End all connections for good."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self.drop("it was closed here")

    async def _connected(self) -> _Socket:
        """A connection that takes a call."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )  # who waits is told too
        connecting = self._connecting
        try:
            socket = await asyncio.shield(connecting)
        finally:
            if connecting.done() and self._connecting is connecting:
                self._connecting = None
        if not socket.connection.full:
            return socket
        if socket.calls:  # of those who waited for the same; there will be another
            return await self._connected()
        raise RpcError("UNAVAILABLE", socket.trouble or "it takes no calls")

    async def _connect(self) -> _Socket:
        loop = asyncio.get_running_loop()
        socket = _Socket(self._after_read, self._sockets)
        name = self._host if self._tls is not None else None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(
                    lambda: socket, self._host, self._port, ssl=self._tls, server_hostname=name
                )
                await socket.met.wait()
        except TimeoutError:
            socket.end(Code.NO_ERROR, "it does not answer")
            raise RpcError("UNAVAILABLE", "it does not answer") from None
        except (OSError, UnicodeError) as error:
            raise RpcError(
                "UNAVAILABLE", f"it cannot be reached: {getattr(error, 'strerror', None) or error}"
            ) from None
        except BaseException:
            socket.end(Code.NO_ERROR, "it was closed here")
            raise
        self._current = socket
        return socket


class _Asked(Call):
    """A call whose answer is gathered."""

    def __init__(self, most: int) -> None:
        self.answer: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._messages: list[bytes] = []
        self._room = most

    def message(self, data: bytes) -> None:
        self._messages.append(data)
        self._room -= len(data)
        if self._room < 0:
            self.fail(RpcError("RESOURCE_EXHAUSTED", "The answer is too large."))

    def over(self, error: RpcError | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(self._messages)
        else:
            self.answer.set_exception(error)


class _Socket(asyncio.Protocol):
    """One connection's socket; among ``all_`` while it is open."""

    def __init__(self, after_read: Callable[[], None], all_: set[_Socket]) -> None:
        self.met = asyncio.Event()  # it can be used, or never will be
        self.trouble = ""
        self._after_read = after_read
        self._all = all_
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waking = False
        self._heard = True
        self._quiet = 0  # looks since something came
        self.connection = Connection(self._wake)

    @property
    def calls(self) -> bool:
        """Whether there are any."""
        return not self.connection.idle

    def end(self, code: Code, why: str) -> None:
        """Close it; its calls are lost. ``why`` ends a sentence."""
        transport, self._transport = self._transport, None
        self._lose(why)
        if transport is None:
            return
        self.connection.part(code)
        transport.write(self.connection.take())
        transport.close()
        self._loop.call_later(LINGER_SECONDS, transport.abort)

    # -- what asyncio calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._all.add(self)
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self.end(Code.NO_ERROR, "it does not offer HTTP/2 over TLS")
        else:
            self._flush()

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._heard = True
        try:
            self.connection.receive(data)
        except Broken as broken:
            self.end(broken.code, f"it does not keep to HTTP/2: {broken.why}")
        else:
            if self.connection.met:
                self.met.set()
            self._flush()
        self._after_read()

    def pause_writing(self) -> None:
        self.connection.hold(True)

    def resume_writing(self) -> None:
        self.connection.hold(False)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        told = getattr(error, "strerror", None) or error
        self._lose(f"the connection was lost ({told})" if told else "it has closed the connection")

    # -- what comes of it ---------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._waking = False
        if self._transport is None:
            return
        out = self.connection.take()
        if out:
            self._transport.write(out)
        if self.connection.leaving and self.connection.idle:
            self.end(Code.NO_ERROR, "it has left")

    def _look(self) -> None:
        self._quiet = 0 if self._heard else self._quiet + 1
        self._heard = False
        if self._quiet > 1:
            self.end(Code.NO_ERROR, "it has fallen silent")
        elif self._transport is not None:
            if self._quiet:
                self.connection.ping()
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def _lose(self, why: str) -> None:
        self.trouble = self.trouble or why
        self._all.discard(self)
        self.met.set()
        if self._timer is not None:
            self._timer.cancel()
        self.connection.lose(RpcError("UNAVAILABLE", why))
        self._after_read()


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get(_ROOTS) or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # certificates of private authorities are often not so exact
    context.set_alpn_protocols(["h2"])
    return context
