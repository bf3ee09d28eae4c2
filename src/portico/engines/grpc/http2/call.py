"""One gRPC call: its messages, each behind a flag and its length (32 bits), and the status that ends it. Pure."""

from __future__ import annotations

from typing import Final

from portico.engines.grpc.http2.connection import Connection, Stream
from portico.engines.grpc.http2.fields import Fields
from portico.engines.grpc.http2.status import RpcError, of_http, of_trailers

__all__ = ["MOST_MESSAGE", "Call", "framed"]

MOST_MESSAGE: Final = 256 << 20  # bytes of one message
_PREFIX: Final = 5  # bytes


def framed(message: bytes) -> bytes:
    """A message as a call carries it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class Call(Stream):
    """Who inherits it gets the answer: ``accepted``, ``message`` for each, and ``over`` as the last, once."""

    _connection: Connection | None = None
    _begun = False
    _rest = b""  # what has come of a message
    _long: bytearray | None = None  # the same of one that is long
    _missing = 1  # bytes until more can be read; before the answer begins there are none to read

    # -- what it says -------------------------------------------------------------------------------------------------

    def accepted(self, fields: Fields) -> None:
        """The answer begins, with these fields."""

    def message(self, data: bytes) -> None:
        """One message."""

    def over(self, error: RpcError | None) -> None:
        """It has ended: as it should, or by ``error``."""

    # -- what it is told ----------------------------------------------------------------------------------------------

    def begin(self, connection: Connection, fields: bytes, messages: bytes, *, ends: bool) -> None:
        """Begin on this connection, with these header fields and framed messages; ``ends``: no further ones follow."""
        self._connection = connection
        connection.open(self, fields, messages, ends=ends)

    def send(self, message: bytes) -> None:
        """One more message, if it is not over."""
        if self._connection is not None:
            self._connection.send(self, framed(message))

    def cancel(self) -> None:
        """End it; nothing is said any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.cancel(self)

    def fail(self, error: RpcError) -> None:
        """End it by an error of ours."""
        if self._connection is not None:
            self.cancel()
            self.over(error)

    # -- what comes ---------------------------------------------------------------------------------------------------

    def head(self, fields: Fields) -> None:
        kind = fields.get("content-type", "")
        if fields.get(":status") != "200" or not kind.startswith("application/grpc"):
            self.fail(of_http(fields.get(":status", "")))
        else:
            self._begun, self._missing = True, 0
            self.accepted(fields)

    def data(self, payload: bytes) -> None:
        if self._missing or payload[0] or int.from_bytes(payload[1:_PREFIX], "big") != len(payload) - _PREFIX:
            self._pieces(payload)
        else:  # a message and nothing else, as most are
            self.message(payload[_PREFIX:])

    def ended(self, fields: Fields | None) -> None:
        if self._connection is None:
            return
        self._connection = None
        if fields is None or ("grpc-status" not in fields and fields.get(":status", "200") == "200"):
            self.over(RpcError("INTERNAL", "The answer ended without a status."))
        elif "grpc-status" not in fields:
            self.over(of_http(fields[":status"]))
        else:
            error = of_trailers(fields)
            if error is None and self._begun and self._missing:
                error = RpcError("INTERNAL", "The answer ended in the middle of a message.")
            self.over(error)

    def lost(self, error: RpcError) -> None:
        if self._connection is not None:
            self._connection = None
            self.over(error)

    def _pieces(self, payload: bytes) -> None:
        """Messages that do not come as one payload each."""
        if not self._begun:
            self.fail(RpcError("INTERNAL", "There were messages before the answer began."))
            return
        if self._long is not None:
            self._long += payload
            self._missing -= len(payload)
            if self._missing > 0:
                return
            payload, self._long = bytes(self._long), None
        else:
            payload = self._rest + payload
        at, end = 0, len(payload)
        self._rest, self._missing = b"", 0
        while at < end:
            self._missing = _PREFIX - (end - at)
            if self._missing > 0:
                break
            size = int.from_bytes(payload[at + 1 : at + _PREFIX], "big")
            if payload[at] or size > MOST_MESSAGE:
                what = "compressed, which was not asked for" if payload[at] else f"too long ({size} bytes)"
                self.fail(RpcError("INTERNAL", f"A message of the answer is {what}."))
                return
            self._missing = size - (end - at - _PREFIX)
            if self._missing > 0:
                break
            self._missing = 0
            self.message(payload[at + _PREFIX : at + _PREFIX + size])
            if self._connection is None:  # it was ended by who got that
                return
            at += _PREFIX + size
        if self._missing > _PREFIX:
            self._long = bytearray(payload[at:])
        else:
            self._rest = payload[at:]
