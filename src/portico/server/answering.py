"""What the handlers of every protocol share: admit, answer, and say what was passed over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from portico.errors import RequestTimeoutError
from portico.generation import Generation
from portico.protocols import sse
from portico.server.exchange import ClientGoneError, Exchange
from portico.server.line import Flight
from portico.server.served import Served, ServedModel
from portico.server.sinks import BodyEncoder, BodySink, StreamEncoder, StreamSink

__all__ = ["UNKNOWN_FIELDS", "answer_body", "answer_stream", "computed", "warn"]

UNKNOWN_FIELDS = "unknown fields ignored"
Result = TypeVar("Result")

MOST_WARNINGS = 20
LONGEST_WARNING = 100  # characters


async def answer_stream(
    exchange: Exchange,
    served: Served,
    by: ServedModel,
    generations: list[Generation],
    encoder: StreamEncoder,
    keep_alive: bytes = sse.KEEP_ALIVE,
) -> None:
    """Admit, then stream. What is refused is refused before the first byte; a client that goes aborts."""
    sink = StreamSink(encoder, keep_alive)
    flight = Flight(generations, sink, served.request_timeout)
    try:
        await by.check(generations)
        await by.line.admit(flight)
        served.metrics.prepare.observe(time.perf_counter() - exchange.started)
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
    sink = BodySink(encoder)
    flight = Flight(generations, sink, served.request_timeout)
    try:
        await by.check(generations)
        await by.line.admit(flight)
        served.metrics.prepare.observe(time.perf_counter() - exchange.started)
        body = await sink.body(exchange)
    finally:
        by.line.abort(flight)
    await exchange.respond(200, body)


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
