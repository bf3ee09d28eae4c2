"""The step loop: one engine's outputs go straight to the connections that wait for them.

One task reads the engine's steps. For each output it feeds the generation, encodes what came out, and when the step is
done writes once per connection. No queue, no task and no wake-up per token: that is where the time would go. Writing is
most of what is left, so steps that come faster than every ``WRITE_SECONDS`` share their writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from portico.engines import EmbeddingBatch, Engine
from portico.errors import EngineDeadError, EngineError, OverloadedError, PorticoError, RequestTimeoutError
from portico.events import EngineOutput, EngineRequest
from portico.generation import Choice, Generation, GenerationSpec, watched
from portico.keys import KEY
from portico.keys.accounts import ANSWER, VISIT, Reservation
from portico.server.line.flight import Flight, Route
from portico.server.line.meter import Meter
from portico.server.line.resuming import Resuming
from portico.threads import CALLER

__all__ = ["Line"]

log = logging.getLogger("portico")

WRITE_SECONDS = 0.002  # between writes to a connection; nobody reads faster, and models seldom answer faster
MEASURED = 16  # one flight in so many has its decoding and parsing measured


class Line:
    """One engine and the flights it is working on."""

    def __init__(
        self,
        engine: Engine,
        meter: Meter,
        *,
        max_in_flight: int = 1024,
        keep_alive: float = 15.0,
        resume: bool = True,
        salted: bool = True,
    ) -> None:
        self.engine = engine
        self._salted = salted
        self.meter = meter
        self.called = ""  # the first name that its model is served by; empty: the engine's own
        self._waits = (meter.waits(False), meter.waits(True))
        self._routes: dict[str, Route] = {}
        self._flights: set[Flight] = set()
        self._max_in_flight = max_in_flight
        self._keep_alive = keep_alive
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False
        self._admitted = 0
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self.used = time.monotonic()  # when anybody last had to do with it
        self._unwritten: dict[Flight, None] = {}  # flights with something to write
        self._written = 0.0  # when connections were last written to
        self._writing: asyncio.TimerHandle | None = None
        self._resuming = Resuming(engine, meter, self._submit, self._end, enabled=resume)

    @property
    def name(self) -> str:
        """What its model is counted by."""
        return self.called or self.engine.info.model

    @property
    def in_flight(self) -> int:
        """Client requests being worked on."""
        return len(self._flights)

    @contextmanager
    def using(self) -> Iterator[None]:
        """Count as one of its users while the block runs; as long as there are any it is not unloaded."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            self._look_for_users()

    @property
    def in_use(self) -> bool:
        """Whether anybody is using it, or an answer is on its way."""
        return not self._unused.is_set()

    def unused_for(self, now: float) -> float:
        """Seconds since it was used; 0 while it is. ``now`` is of the monotonic clock."""
        return 0.0 if self.in_use else now - self.used

    async def unused(self) -> None:
        """Returns when nobody is using it and every answer has ended."""
        await self._unused.wait()

    def _look_for_users(self) -> None:
        self.used = time.monotonic()
        if not self._users and not self._flights:
            self._unused.set()

    @property
    def load(self) -> tuple[int, int]:
        """Engine requests that have begun to give output, and those that wait for their first."""
        begun = sum(1 for route in self._routes.values() if route.last_output)
        return begun, len(self._routes) - begun

    @property
    def draining(self) -> bool:
        """Whether the server is about to end."""
        return self._draining

    @property
    def healthy(self) -> bool:
        """Whether new requests can be served now."""
        return self.engine.healthy and not self._draining

    async def start(self) -> None:
        """Start the engine and the step loop. Raises ``EngineError`` when the engine cannot start."""
        await self.engine.start()
        self._tasks = [asyncio.create_task(self._steps()), asyncio.create_task(self._clock())]

    async def close(self) -> None:
        """End every flight with an in-band error, then the engine."""
        self._draining = True
        self.fail_all(OverloadedError("The server is shutting down.", retry_after=1))
        await self.engine.close()
        self._write()
        self._resuming.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drain(self) -> None:
        """Take no new flights."""
        self._draining = True

    def fail_all(self, error: PorticoError) -> None:
        """End every flight with ``error``."""
        for flight in list(self._flights):
            self._end(flight, error)

    async def admit(self, flight: Flight) -> None:
        """Hand the flight's requests to the engine. Raises before any output is delivered, or not at all; then nothing
        of it counts for its API key."""
        if self._draining:
            raise OverloadedError("The server is shutting down; try again elsewhere.", retry_after=1)
        if len(self._flights) >= self._max_in_flight:
            raise OverloadedError("Too many requests are in flight; try again.", code="queue_full", retry_after=1)
        flight.reservation = _reserved(flight.generations, self.engine.info.context_length)
        loop = asyncio.get_running_loop()
        flight.admitted = loop.time()
        if flight.timeout is not None:
            flight.deadline = flight.admitted + flight.timeout
        self._flights.add(flight)
        self._unused.clear()
        self._admitted += 1
        self.meter.admitted()
        try:
            for position, generation in enumerate(flight.generations):
                generation.spec = _ranked(generation.spec)
                if self._salted and "cache_salt" in self.engine.info.capabilities:
                    generation.spec = _salted(generation.spec)
                for choice, request in zip(generation.choices, generation.engine_requests(), strict=True):
                    await self._submit(self._route(flight, request, choice, position))
        except BaseException:
            flight.refused = True
            if flight.reservation is not None:
                flight.reservation.cancel()
            self.abort(flight)
            raise

    def _route(self, flight: Flight, request: EngineRequest, choice: Choice, position: int) -> Route:
        """The way of the request's outputs: to the choice, with somebody looking on where that was asked for."""
        watches = [watch(choice, position) for watch in flight.watches]
        if self._admitted % MEASURED == 1:
            watches.append(self.meter.measure)
        feed = watched(choice, watches, time.perf_counter) if watches else choice.feed
        if not self._resuming.enabled:
            choice.forget()
        route = Route(flight, request, feed, position, choice, watches)
        flight.routes.append(route)
        return route

    async def _submit(self, route: Route) -> None:
        """Hand the route's request to the engine. Raises what the engine raises; then nobody has it."""
        request_id = route.request.request_id
        self._routes[request_id] = route
        try:
            await self.engine.submit(route.request)
        except BaseException:
            self._routes.pop(request_id, None)
            raise
        if route.flight.over:  # aborted while the engine was taking it
            self.engine.abort(request_id)

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Embed token sequences on the engine, or on the next where it dies over them."""
        if self._draining:
            raise OverloadedError("The server is shutting down; try again elsewhere.", retry_after=1)
        visit = VISIT.get()
        tokens = sum(map(len, token_id_lists))
        reservation = visit.reserve(tokens, 0) if visit is not None else None
        try:
            batch = await self._resuming.outlive(partial(self.engine.embed, token_id_lists))
        except BaseException:
            if reservation is not None:
                reservation.cancel()
            raise
        if reservation is not None:
            reservation.settle(tokens)
        self.meter.used(KEY.get(), self.name, tokens, 0, 0)
        return batch

    def abort(self, flight: Flight) -> None:
        """Stop the flight's requests at the engine; nothing more is delivered. Idempotent."""
        if flight.over:
            return
        routes = flight.routes
        self._close(flight)
        for route in routes:
            request_id = route.request.request_id
            if self._routes.pop(request_id, None) is not None and not route.choice.finished:
                self.engine.abort(request_id)

    def _close(self, flight: Flight) -> None:
        """The flight is over, however it ended: count it."""
        flight.over = True
        flight.routes = []  # they know the flight: it would be freed by the collector alone
        usages = [generation.usage for generation in flight.generations]
        prompt = sum(usage.prompt_tokens for usage in usages)
        answer = sum(usage.completion_tokens for usage in usages)
        if flight.reservation is not None:
            flight.reservation.settle(prompt + answer)
        if not flight.refused:
            model = flight.generations[0].spec.lora or self.name
            self.meter.used(flight.key, model, prompt, sum(usage.cached_tokens or 0 for usage in usages), answer)
        self._flights.discard(flight)
        self._look_for_users()
        self.meter.over(flight.generations)

    def _end(self, flight: Flight, error: PorticoError) -> None:
        self.abort(flight)
        flight.sink.fail(error)
        flight.sink.flush()

    async def _steps(self) -> None:
        try:
            async for outputs in self.engine.steps():
                self._step(outputs)
        except Exception:
            log.exception("the engine's step stream failed")
        if not self._draining:
            self.fail_all(EngineDeadError("The engine stopped."))

    def _step(self, outputs: Sequence[EngineOutput]) -> None:
        """One engine step: feed every output on, then write once per flight."""
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        now = loop.time()
        meter, unwritten, find = self.meter, self._unwritten, self._routes.get
        waits = self._waits
        for output in outputs:
            route = find(output.request_id)
            if route is None:
                continue
            if output.finish_reason is not None and output.finish_reason == "lost":
                del self._routes[output.request_id]
                self._resuming.lost(route, output.error)
                continue
            flight = route.flight
            if route.last_output:
                waits[flight.later].between_tokens.observe(now - route.last_output)
            else:
                waits[flight.later].first_token.observe(now - flight.admitted)
                flight.first_output = flight.first_output or now
            route.last_output = now
            try:
                delta = route.feed(output)
                if delta is None:
                    continue
                if delta.finish is not None and delta.finish.reason in ("error", "abort"):
                    self._end(flight, EngineError(delta.error or "The engine ended this request."))
                    continue
                flight.sink.feed(delta, route.position)
            except Exception:
                log.exception("request %s failed", output.request_id)
                self._end(flight, PorticoError("The server failed on this request; the error has been logged."))
                continue
            unwritten[flight] = None
            if delta.finish is not None:
                meter.finished(delta.finish.reason)
                flight.finishes.append(delta.finish.reason)
                del self._routes[output.request_id]
                if output.finish_reason is None:  # a stop string ended it before the engine did
                    self.engine.abort(output.request_id)
                if all(generation.finished for generation in flight.generations):
                    self._close(flight)
                    flight.sink.finish()
        if now - self._written >= WRITE_SECONDS:
            self._write()
        elif self._writing is None:
            self._writing = loop.call_at(self._written + WRITE_SECONDS, self._write)
        meter.step.observe(time.perf_counter() - started)

    def _write(self) -> None:
        """Write what has come, once per flight."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        self._written = asyncio.get_running_loop().time()
        unwritten, self._unwritten = self._unwritten, {}
        for flight in unwritten:
            flight.sink.flush()
            if flight.sink.stalled:
                self._end(flight, RequestTimeoutError("The client reads too slowly."))

    async def _clock(self) -> None:
        """Once a second: deadlines; every ``keep_alive`` seconds: comments on silent streams."""
        loop = asyncio.get_running_loop()
        next_keep_alive = loop.time() + self._keep_alive
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            self._resuming.bound(self._routes.values())
            self._end_late(now)
            if self._keep_alive and now >= next_keep_alive:
                next_keep_alive = now + self._keep_alive
                self._keep_alive_all()

    def _end_late(self, now: float) -> None:
        for flight in list(self._flights):
            if flight.deadline is not None and now > flight.deadline:
                self._end(flight, RequestTimeoutError(f"The request took longer than {flight.timeout:g} seconds."))

    def _keep_alive_all(self) -> None:
        for flight in self._flights:
            flight.sink.keep_alive()


def _reserved(generations: Sequence[Generation], context: int) -> Reservation | None:
    """The tokens of these, counted for the API key. Raises ``RateLimitError`` where it may not use so many."""
    visit = VISIT.get()
    if visit is None:
        return None
    specs = [generation.spec for generation in generations]
    answers = sum(spec.n * _likely(spec.sampling.max_tokens, context - len(spec.prompt_ids)) for spec in specs)
    return visit.reserve(sum(len(spec.prompt_ids) for spec in specs), answers)


def _likely(most: int, room: int) -> int:
    """How many tokens to expect of an answer. One that may fill the context has no bound that would say anything."""
    return most if most < room else min(ANSWER, room)


def _ranked(spec: GenerationSpec) -> GenerationSpec:
    """``spec`` with the priority of its API key, if that has one, unless it is to come later still."""
    rank = KEY.get().priority
    return spec if rank is None or spec.priority >= rank else replace(spec, priority=rank)


def _salted(spec: GenerationSpec) -> GenerationSpec:
    """``spec`` with a salt of its API key's own, unless it has one: timing tells nobody what other keys have asked."""
    caller = CALLER.get()
    if spec.cache_salt is not None or not caller:
        return spec
    return replace(spec, cache_salt=hashlib.sha256(f"prefix cache of {caller}".encode()).hexdigest()[:32])
