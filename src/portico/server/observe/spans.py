"""The spans of one request, made when it is over: see ``telemetry`` for what they are."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Any

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from portico.errors import PorticoError
from portico.events import EngineOutput
from portico.generation import Choice, Delta, Generation
from portico.protocols.encoders import BodyEncoder, StreamEncoder
from portico.server.http.app import Outcome
from portico.server.http.exchange import Exchange, Onlooker
from portico.server.observe.conventions import OPERATIONS, EngineWork, generation_attributes, server_attributes
from portico.trace import layer_of

__all__ = ["RequestSpans"]


_context = TraceContextTextMapPropagator()


@dataclass
class Work:
    """The time that one part was at work, in pieces; times as ``time.perf_counter`` gives them."""

    began: float = 0.0
    ended: float = 0.0
    busy: float = 0.0

    def add(self, began: float, ended: float) -> None:
        """It worked from then to then."""
        self.began = self.began or began
        self.ended = ended
        self.busy += ended - began


class RequestSpans(Onlooker):
    """The spans of one request."""

    def __init__(self, exchange: Exchange, tracer: api.Tracer) -> None:
        self._exchange = exchange
        self._tracer = tracer
        self._to_wall = time.time_ns() - int(time.perf_counter() * 1e9)
        headers = {name: exchange.header(name.encode()) or "" for name in _context.fields}
        attributes = dict(server_attributes(exchange))
        self._server = tracer.start_span(
            exchange.method,
            context=_context.extract({name: value for name, value in headers.items() if value}),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=self._wall(exchange.started),
        )
        self._inside: Context = api.set_span_in_context(self._server)
        self._client: Span | None = None
        self._engine = EngineWork()
        self._parts = {name: Work() for name in ("decode", "parse", "encode", "write")}
        self._streamed = False
        self._per_generation = 1
        self._error: tuple[str, int, str] | None = None  # code, status, layer
        if self._server.is_recording():
            exchange.send = self._sending(exchange.send)

    # -- while it is answered -----------------------------------------------------------------------------------------

    def submitting(self, generations: Sequence[Generation]) -> None:
        """The engine's span begins; the engine is told of it."""
        self._engine.asked = time.perf_counter()
        self._per_generation = generations[0].spec.n
        self._client = self._begin_client(self._engine.asked)
        headers: dict[str, str] = {}
        _context.inject(headers, api.set_span_in_context(self._client))
        for generation in generations:
            generation.spec = changed(generation.spec, trace_headers=headers)

    def watch(self, choice: Choice, position: int) -> ChoiceWork:
        """Who measures the choice of the generation at ``position``."""
        return ChoiceWork(position * self._per_generation + choice.index, self._engine, self._parts)

    def stream(self, encoder: StreamEncoder) -> StreamEncoder:
        """The encoder of a stream, measured."""
        self._streamed = True
        return MeasuredEncoder(encoder, self._parts["encode"], self.failed)

    def body(self, encoder: BodyEncoder) -> BodyEncoder:
        """The encoder of a whole body, measured."""
        return MeasuredEncoder(encoder, self._parts["encode"], self.failed)

    def failed(self, error: PorticoError, raised: BaseException | None = None) -> None:
        """The request ends with an error."""
        layer = layer_of(error, (raised or error).__traceback__)
        self._error = (error.code or error.type, error.status, layer)

    def _sending(self, send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        write = self._parts["write"]

        async def sent(message: MutableMapping[str, Any]) -> None:
            began = time.perf_counter()
            await send(message)
            write.add(began, time.perf_counter())

        return sent

    # -- when it is over ----------------------------------------------------------------------------------------------

    def end(self, outcome: Outcome) -> None:
        """Make the spans of the layers, and end those that are open."""
        now = time.perf_counter()
        exchange, server = self._exchange, self._server
        if outcome == "ok" and self._error is not None:
            outcome = "failed"  # in-band, after the response had begun
        if server.is_recording():
            self._end_client(now)
            for name, work in (*self._stages().items(), *self._parts.items()):
                if work.began:
                    self._child(name, work, busy=name in self._parts)
            server.update_name(f"{exchange.method} {exchange.route}" if exchange.route != "none" else exchange.method)
            server.set_attributes(self._result(outcome))
        if self._error is not None:
            _mark(server, *self._error[:2])
        elif outcome == "gone":
            server.set_attribute("error.type", "client_disconnected")
        server.end(self._wall(now))

    def _result(self, outcome: Outcome) -> dict[str, Any]:
        exchange = self._exchange
        found: dict[str, Any] = {"portico.outcome": outcome, "portico.request_id": exchange.request_id}
        if exchange.route != "none":
            found["http.route"] = exchange.route
        if exchange.status:
            found["http.response.status_code"] = exchange.status
        if self._error is not None:
            found["portico.layer"] = self._error[2]
        if self._engine.first:
            found["portico.time_to_first_token"] = self._engine.first - exchange.started
        return found

    def _stages(self) -> dict[str, Work]:
        """The stages on the way to the engine; of several prompts one each."""
        stages: dict[str, Work] = {}
        for name, began, ended in self._exchange.stages:
            stages.setdefault(name, Work()).add(began, ended)
        return stages

    def _child(self, name: str, work: Work, *, busy: bool) -> None:
        span = self._tracer.start_span(name, self._inside, start_time=self._wall(work.began))
        if busy:
            span.set_attribute("portico.busy", work.busy)
        span.end(self._wall(work.ended))

    def _begin_client(self, began: float) -> Span:
        exchange = self._exchange
        operation = OPERATIONS.get(exchange.route, "chat")
        model = exchange.model.name if exchange.model is not None else ""
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "portico",
            "gen_ai.request.model": model,
        }
        start = self._wall(began)
        return self._tracer.start_span(
            f"{operation} {model}", self._inside, SpanKind.CLIENT, attributes, start_time=start
        )

    def _end_client(self, now: float) -> None:
        """End the engine's span with what is known of its work; embeddings have theirs only now."""
        exchange, engine = self._exchange, self._engine
        if self._client is None:
            if OPERATIONS.get(exchange.route) != "embeddings" or not exchange.stages or exchange.model is None:
                return
            self._client = self._begin_client(exchange.stages[-1].ended)
            self._client.set_attribute("gen_ai.usage.input_tokens", exchange.prompt_tokens)
            if exchange.model.embedding_size:
                self._client.set_attribute("gen_ai.embeddings.dimension.count", exchange.model.embedding_size)
            engine.last = self._parts["write"].began or now
        else:
            self._client.set_attributes(generation_attributes(exchange, engine, self._streamed))
        if self._error is not None:
            _mark(self._client, *self._error[:2])
        over = len(engine.finishes) == sum(generation.spec.n for generation in exchange.generations)
        self._client.end(self._wall(engine.last if over and engine.last else now))

    def _wall(self, moment: float) -> int:
        """A moment of ``time.perf_counter`` as nanoseconds of Unix time."""
        return int(moment * 1e9) + self._to_wall


class ChoiceWork:
    """Watches one choice (see ``portico.generation.Watch``)."""

    def __init__(self, number: int, engine: EngineWork, parts: Mapping[str, Work]) -> None:
        self._number = number
        self._engine = engine
        self._decode, self._parse = parts["decode"], parts["parse"]

    def took(self, output: EngineOutput) -> None:
        """The engine gave this."""
        engine = self._engine
        engine.last = time.perf_counter()
        engine.first = engine.first or engine.last

    def decoded(self, text: str, seconds: float) -> None:
        """Its tokens gave text."""
        now = time.perf_counter()
        self._decode.add(now - seconds, now)

    def parsed(self, seconds: float) -> None:
        """The text was read."""
        now = time.perf_counter()
        self._parse.add(now - seconds, now)

    def gave(self, delta: Delta | None) -> None:
        """This is what the output came to."""
        if delta is not None and delta.finish is not None:
            self._engine.finishes[self._number] = delta.finish.reason

    def lost(self, why: str) -> None:
        """Its engine is gone."""
        self._engine.losses += 1


class MeasuredEncoder:
    """An encoder, of a stream or of a body, whose time is measured."""

    def __init__(self, encoder: Any, work: Work, failed: Callable[[PorticoError], None]) -> None:
        self._encoder = encoder
        self._work = work
        self._failed = failed

    def start(self) -> Any:
        return self._measured(self._encoder.start)

    def feed(self, delta: Delta, position: int) -> Any:
        return self._measured(self._encoder.feed, delta, position)

    def finish(self) -> Any:
        return self._measured(self._encoder.finish)

    def body(self) -> Any:
        return self._measured(self._encoder.body)

    def fail(self, error: PorticoError) -> Any:
        self._failed(error)
        return self._measured(self._encoder.fail, error)

    def keep_alive(self) -> Any:
        return self._measured(self._encoder.keep_alive)

    def _measured(self, encode: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        data = encode(*arguments)
        self._work.add(began, time.perf_counter())
        return data


def _mark(span: Span, code: str, status: int) -> None:
    """An error: its code; the span's status only where the fault is ours, as the HTTP conventions have it."""
    span.set_attribute("error.type", code)
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR, code))
