"""What the calls of both services share: a flight's messages, and the answer that a call sends them from.

A service is an object with a coroutine per call, named as in the ``.proto`` file. A unary call returns its response, a
streaming one, once the engine has taken the request, an async iterator with ``aclose``. Errors are raised as
``PorticoError``; the server gives them their status.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Final, Generic, Protocol, TypeVar

from portico.errors import PorticoError
from portico.generation import Delta, Generation
from portico.protocols.warnings import LEFT_OUT, NOT_ENFORCED, warning
from portico.server.line.flight import Flight
from portico.server.line.model import ServedModel
from portico.server.line.served import Served
from portico.threads import Threads

__all__ = ["ABOUT", "LARGE_REQUEST", "Answer", "MessageSink", "admitted", "new_id", "off_loop"]

MOST_JOINED = 256  # messages that become one for a client that lags; keeps it within clients' limits
MAX_UNREAD = 1 << 16  # messages collected for a client that does not read before its flight ends

ABOUT: ContextVar[str] = ContextVar("about", default="")  # the model that the call of this task is counted by
LARGE_REQUEST: ContextVar[bool] = ContextVar("large_request", default=False)  # of the call of this task

_LARGE_MESSAGES: Final = Threads("messages", 2, waiting=64)

Message = TypeVar("Message")
Result = TypeVar("Result")


class Encoder(Protocol[Message]):
    """The answering half of a service: deltas -> messages."""

    def feed(self, delta: Delta) -> list[Message]: ...
    def joined(self, messages: Sequence[Message]) -> list[Message]: ...
    def aborted(self) -> list[Message]: ...


class MessageSink(Generic[Message]):
    """Collects a flight's messages for the call that sends them, joined when it comes later than they do."""

    def __init__(self, encoder: Encoder[Message]) -> None:
        self._encoder = encoder
        self._messages: list[Message] = []
        self._complete = False
        self._error: PorticoError | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def stalled(self) -> bool:
        """True when the client reads so slowly that the flight must end."""
        return len(self._messages) > MAX_UNREAD

    def feed(self, delta: Delta, position: int) -> None:
        """Encode one delta."""
        self._messages += self._encoder.feed(delta)

    def flush(self) -> None:
        """A step is over: let the call send what has come."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def finish(self) -> None:
        """Every choice is finished."""
        self._complete = True

    def fail(self, error: PorticoError) -> None:
        """The call ends with ``error``, after what has come."""
        if not self._complete:
            self._complete, self._error = True, error

    def aborted(self) -> None:
        """The client has stopped the request by another call: no error, an end."""
        if not self._complete:
            self._messages += self._encoder.aborted()
            self._complete = True
            self.flush()

    def keep_alive(self) -> None:
        """HTTP/2 has pings."""

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            batch, self._messages = self._messages, []
            for start in range(0, len(batch), MOST_JOINED):
                for message in self._encoder.joined(batch[start : start + MOST_JOINED]):
                    yield message
            if self._messages:
                continue
            if self._complete:
                if self._error is not None:
                    raise self._error
                return
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake


class Answer(Generic[Message]):
    """The messages of an admitted flight. Whoever has it closes it, which aborts what is not finished.

    ``warnings`` say what of the request was passed over.
    """

    def __init__(
        self, by: ServedModel, flight: Flight, sink: MessageSink[Message], warnings: Sequence[str] = ()
    ) -> None:
        self.warnings = warnings
        self.flight = flight
        self.sink = sink
        self._line = by.line
        self._open = ExitStack()
        self._open.enter_context(by.line.meter.streaming())

    def __aiter__(self) -> AsyncIterator[Message]:
        return self.sink.__aiter__()

    def stop(self) -> None:
        """End it in-band, as its client asked for by another call."""
        self._line.abort(self.flight)
        self.sink.aborted()

    async def aclose(self) -> None:
        """It is over, however it ended."""
        self._open.close()
        self._line.abort(self.flight)


async def admitted(
    served: Served,
    by: ServedModel,
    generation: Generation,
    encoder: Encoder[Message],
    started: float,
    left_out: Iterable[str] = (),
) -> Answer[Message]:
    """Hand the generation to the engine. What is refused is refused here. ``left_out`` names what of the request did
    not reach the prompt."""
    ABOUT.set(by.model.label)
    sink = MessageSink(encoder)
    flight = Flight([generation], sink, served.request_timeout)
    await by.check(flight.generations)
    await by.line.admit(flight)
    by.line.meter.waits(flight.later).prepare.observe(time.perf_counter() - started)
    told = (warning(LEFT_OUT, left_out), warning(NOT_ENFORCED, generation.spec.left_out))
    return Answer(by, flight, sink, [one for one in told if one])


async def off_loop(function: Callable[[], Result]) -> Result:
    """What ``function`` returns, whose work grows with the request: in a thread where that is large."""
    return await _LARGE_MESSAGES.run(function) if LARGE_REQUEST.get() else function()


def new_id() -> str:
    """The id of a request over gRPC."""
    return f"grpc-{secrets.token_hex(8)}"
