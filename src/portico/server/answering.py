"""What the handlers of every protocol share: admit, answer, and say what was passed over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from portico.errors import RequestTimeoutError
from portico.generation import Generation
from portico.server.exchange import ClientGoneError, Exchange
from portico.server.line import Flight, Sink
from portico.server.served import Served, ServedModel
from portico.server.sinks import BodyEncoder, BodySink, StreamEncoder, StreamSink
from portico.trace import TracedBody, TracedStream

__all__ = ["UNKNOWN_FIELDS", "answer_body", "answer_stream", "computed", "warn"]

UNKNOWN_FIELDS = "unknown fields ignored"
Result = TypeVar("Result")

MOST_WARNINGS = 20
LONGEST_WARNING = 100  # characters


async def answer_stream(
    exchange: Exchange, served: Served, by: ServedModel, generations: list[Generation], encoder: StreamEncoder
) -> None:
    """Admit, then stream. What is refused is refused before the first byte; a client that goes aborts."""
    exchange.decided(*generations)
    sink = StreamSink(encoder if exchange.trace is None else TracedStream(encoder, exchange.trace))
    flight = await _admitted(exchange, served, by, sink)
    try:
        await sink.open(exchange)
        with served.metrics.streams.track_inprogress():
            await exchange.disconnected()
        if not flight.over:
            raise ClientGoneError
    finally:
        by.line.abort(flight)


async def answer_body(
    exchange: Exchange, served: Served, by: ServedModel, generations: list[Generation], encoder: BodyEncoder
) -> None:
    """Admit, wait for the whole answer, send it."""
    exchange.decided(*generations)
    sink = BodySink(encoder if exchange.trace is None else TracedBody(encoder, exchange.trace))
    flight = await _admitted(exchange, served, by, sink)
    try:
        body = await sink.body(exchange)
    finally:
        by.line.abort(flight)
    await exchange.respond(200, body)


async def _admitted(exchange: Exchange, served: Served, by: ServedModel, sink: Sink) -> Flight:
    """The flight of the exchange's generations, taken by the engine. Raises where it is refused."""
    watch = None if exchange.trace is None else exchange.trace.watch
    flight = Flight(exchange.generations, sink, served.request_timeout, watch)
    await by.check(flight.generations)
    exchange.checked()
    await by.line.admit(flight)
    exchange.admitted()
    served.metrics.prepare.observe(time.perf_counter() - exchange.started)
    return flight


async def computed(exchange: Exchange, served: Served, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``; it is cancelled when the client goes or the request's time is over before it is done."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(exchange.disconnected())
    try:
        await asyncio.wait((working, gone), timeout=served.request_timeout, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if gone.done():
            raise ClientGoneError
        raise RequestTimeoutError(f"The request took longer than {served.request_timeout:g} seconds.")
    finally:
        working.cancel()
        gone.cancel()


def warn(exchange: Exchange, what: str, names: Iterable[str]) -> None:
    """Say in a response header what of the request was passed over: a typo should not pass in silence."""
    shown = [name[:LONGEST_WARNING] for name in names if name.isascii() and name.isprintable()][:MOST_WARNINGS]
    if shown:
        exchange.response_headers.append((b"x-portico-warning", f"{what}: {', '.join(shown)}".encode("ascii")))
