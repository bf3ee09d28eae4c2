"""What the server counts, for Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import generate_latest

from portico import __version__
from portico.errors import PorticoError
from portico.events import EngineOutput
from portico.generation import Delta, Generation
from portico.keys import Key
from portico.keys.usage import Usage
from portico.server.http.app import Outcome
from portico.server.http.exchange import Exchange
from portico.server.line.meter import Waits
from portico.server.observe.apis import api_of
from portico.server.observe.histograms import LightHistogram, LightHistograms
from portico.server.observe.ledger import WRITE_SECONDS, Ledger
from portico.server.observe.loads import Loads

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

WORK = ("interactive", "batch")  # the values of the label ``work``: what somebody waits for, and what nobody does

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_MINUTE = (5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_TINY = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1e-1, 1.0)


class Measure:
    """Watches choices to see what decoding and parsing cost; both are far below the time of a measurement, so a line
    has one flight in several watched."""

    def __init__(self) -> None:
        self.decode = LightHistogram(
            "portico_decode_seconds", "Decoding the tokens of one step of one choice, of one request in 16.", _MINUTE
        )
        self.parse = LightHistogram(
            "portico_parse_seconds", "Parsing the text of one step of one choice, of one request in 16.", _MINUTE
        )

    def took(self, output: EngineOutput) -> None:
        """An output by itself has no duration."""

    def decoded(self, text: str, seconds: float) -> None:
        """Count what decoding took."""
        self.decode.observe(seconds)

    def parsed(self, seconds: float) -> None:
        """Count what parsing took."""
        self.parse.observe(seconds)

    def gave(self, delta: Delta | None) -> None:
        """Nothing to count here."""

    def lost(self, why: str) -> None:
        """Nothing to count here."""


class Metrics:
    """All metrics of one server process; with a ``ledger``, shown together with those of the other workers.

    Observes requests (``portico.server.http.app.Observer``), and is the ``Meter`` of every line and of batches. What
    somebody waits for is told apart from the lines of batches, which wait for all others.
    """

    def __init__(self, ledger: Ledger | None = None, *, of_keys: bool = False) -> None:
        """``of_keys``: count what each key uses, by its name."""
        self._ledger = ledger
        self.usage = Usage()
        self.key_requests: Counter | None = None
        self.key_tokens: Counter | None = None
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "portico_requests",
            "Requests by API, route, model, outcome (ok, refused, failed, gone) and cause (an error code).",
            ["api", "route", "model", "outcome", "cause", "work"],
            registry=registry,
        )
        self.tokens = Counter(
            "portico_tokens", "Tokens by kind (prompt, cached, completion, reasoning).", ["kind"], registry=registry
        )
        if of_keys:
            self.key_requests = Counter(
                "portico_key_requests", "Requests by API key and model.", ["key", "model"], registry=registry
            )
            self.key_tokens = Counter(
                "portico_key_tokens",
                "Tokens by API key, model and kind (prompt, cached, completion).",
                ["key", "model", "kind"],
                registry=registry,
            )
        self.finishes = Counter("portico_finishes", "Choices by finish reason.", ["reason"], registry=registry)
        self.parsed = Counter(
            "portico_parser_outcomes", "What reading model output came to, by kind.", ["outcome"], registry=registry
        )
        self.recovered = Counter(
            "portico_parser_recoveries",
            "What was read although the format does not allow it, by kind and parser: a model that drifts.",
            ["kind", "parser"],
            registry=registry,
        )
        self.disconnects = Counter(
            "portico_disconnects", "Clients that left before their answer was complete.", registry=registry
        )
        self.resumptions = Counter(
            "portico_answers_resumed", "Answers that went on after their engine was lost.", registry=registry
        )
        self.resumed_tokens = Counter(
            "portico_tokens_recomputed", "Tokens of those answers that existed already.", registry=registry
        )
        self.in_flight = Gauge("portico_requests_in_flight", "Requests being worked on.", registry=registry)
        self.streams = Gauge("portico_streams_open", "Streams being written.", registry=registry)
        self.first_token = Histogram(
            "portico_time_to_first_token_seconds",
            "From admission to the first token.",
            ["work"],
            buckets=_SLOW,
            registry=registry,
        )
        self.end_to_end = Histogram(
            "portico_request_seconds", "From the request's head to the end of its answer.", ["api", "model", "work"],
            buckets=_SLOW, registry=registry,
        )  # fmt: skip
        self.pause = Histogram(
            "portico_resume_pause_seconds", "From the loss of an engine to the return of one of its answers.",
            buckets=_SLOW, registry=registry,
        )  # fmt: skip
        self.prepare = Histogram(
            "portico_prepare_seconds", "From the request's head to admission: validation, template, tokens, grammar.",
            ["work"], buckets=_FAST, registry=registry,
        )  # fmt: skip
        self.batches = Counter(
            "portico_batches", "Batches that have ended, by whose API made them and status.", ["api", "status"],
            registry=registry,
        )  # fmt: skip
        self.batch_lines = Counter(
            "portico_batch_lines", "Lines of batches by how they came out and cause (an error code).",
            ["outcome", "cause"], registry=registry,
        )  # fmt: skip
        self.open_batches = Gauge(
            "portico_batches_open", "Batches that have not ended, by state (running, waiting).", ["state"],
            registry=registry,
        )  # fmt: skip
        self.open_lines = Gauge(
            "portico_batch_lines_open", "Lines of batches that have no result yet, by state (running, waiting).",
            ["state"], registry=registry,
        )  # fmt: skip
        self.between_tokens = LightHistograms(
            "portico_inter_token_seconds", "Between one output of a choice and the next.", _FAST, "work", WORK
        )
        self._waits = [
            Waits(*(one.labels(work) for one in (self.prepare, self.first_token, self.between_tokens))) for work in WORK
        ]
        self.step = LightHistogram(
            "portico_step_seconds",
            "The front door's work on one engine step: decode, parse, encode, and write where steps do not share it.",
            _TINY,
        )
        self.stages = {
            "read": LightHistogram("portico_read_seconds", "Receiving one request's body.", _TINY),
            "validate": LightHistogram("portico_validate_seconds", "Validating one request.", _TINY),
            "template": LightHistogram("portico_template_seconds", "Rendering one prompt.", _TINY),
            "tokenize": LightHistogram("portico_tokenize_seconds", "Tokenizing one prompt.", _TINY),
            "constrain": LightHistogram("portico_constrain_seconds", "Deciding what an answer is held to.", _TINY),
            "check": LightHistogram("portico_check_seconds", "Trying a grammar out before it is used.", _TINY),
            "admit": LightHistogram("portico_admit_seconds", "Handing one request to the engine.", _TINY),
        }
        self.measure = Measure()
        for histogram in (*self.stages.values(), self.measure.decode, self.measure.parse):
            registry.register(histogram)
        registry.register(self.between_tokens)
        registry.register(self.step)
        self.loads = Loads()
        registry.register(self.loads)
        Info("portico_build", "Portico's version, as a label.", registry=registry).info({"version": __version__})
        ProcessCollector(registry=registry)

    # -- requests -----------------------------------------------------------------------------------------------------

    def begun(self, exchange: Exchange) -> None:
        """Nothing is counted before the end."""

    def refused(self, exchange: Exchange, error: PorticoError, raised: BaseException) -> None:
        """Counted at the end, by its code."""

    def ended(self, exchange: Exchange, outcome: Outcome, cause: str) -> None:
        """Count one HTTP request, and what its stages took."""
        model = exchange.model.label if exchange.model is not None else ""
        seconds = time.perf_counter() - exchange.started
        api = api_of(exchange.route)
        self.count(api, exchange.route, model, outcome, cause, seconds, later=exchange.later)
        for name, began, ended in exchange.stages:
            if name in self.stages:
                self.stages[name].observe(ended - began)

    def count(
        self, api: str, route: str, model: str, outcome: Outcome, cause: str, seconds: float, *, later: bool = False
    ) -> None:
        """Count one request over whatever protocol, of a model if one was found; ``later``: nobody waits for it."""
        work = WORK[later]
        self.requests.labels(api, route, model, outcome, cause, work).inc()
        self.end_to_end.labels(api, model, work).observe(seconds)
        if outcome == "gone" and not later:
            self.disconnects.inc()

    # -- lines --------------------------------------------------------------------------------------------------------

    def waits(self, later: bool) -> Waits:
        """What a request waited for; ``later``: nobody waits for it."""
        return self._waits[later]

    def admitted(self) -> None:
        """A flight goes to the engine."""
        self.in_flight.inc()

    def finished(self, reason: str) -> None:
        """A choice has finished for that reason."""
        self.finishes.labels(reason).inc()

    def over(self, generations: Sequence[Generation]) -> None:
        """A flight is over: count its tokens, and what its parsers saw."""
        self.in_flight.dec()
        for generation in generations:
            usage = generation.usage
            self.tokens.labels("prompt").inc(usage.prompt_tokens)
            self.tokens.labels("completion").inc(usage.completion_tokens)
            self.tokens.labels("reasoning").inc(usage.reasoning_tokens)
            self.tokens.labels("cached").inc(usage.cached_tokens or 0)
            for choice in generation.choices:
                self._count_outcomes(choice.outcomes)
                for kind, count in choice.recoveries.items():
                    self.recovered.labels(kind, choice.parser).inc(count)

    def used(self, key: Key, model: str, prompt: int, cached: int, completion: int) -> None:
        """A request with that key is over: count what it used."""
        self.usage.count(time.time(), key.shown, model, prompt, cached, completion)
        if self.key_requests is not None and self.key_tokens is not None:
            self.key_requests.labels(key.shown, model).inc()
            for kind, count in (("prompt", prompt), ("cached", cached), ("completion", completion)):
                self.key_tokens.labels(key.shown, model, kind).inc(count)

    def resumed(self, tokens: int, seconds: float) -> None:
        """An answer goes on, with so many tokens, after so long a pause."""
        self.resumptions.inc()
        self.resumed_tokens.inc(tokens)
        self.pause.observe(seconds)

    def streaming(self) -> AbstractContextManager[None]:
        """Around the writing of one stream."""
        return self.streams.track_inprogress()

    def _count_outcomes(self, outcomes: Mapping[str, int]) -> None:
        for outcome, count in outcomes.items():
            if count:
                self.parsed.labels(outcome).inc(count)

    # -- batches ------------------------------------------------------------------------------------------------------

    def lines(self, outcome: str, cause: str, count: int) -> None:
        """So many lines have come out so."""
        self.batch_lines.labels(outcome, cause).inc(count)

    def batch(self, kind: str, status: str) -> None:
        """A batch of that API has ended so."""
        self.batches.labels(kind, status).inc()

    def backlog(self, batches: Mapping[str, int], lines: Mapping[str, int]) -> None:
        """So many have not ended, by state."""
        for gauge, states in ((self.open_batches, batches), (self.open_lines, lines)):
            for state, count in states.items():
                gauge.labels(state).set(count)

    # -- showing ------------------------------------------------------------------------------------------------------

    def render(self) -> bytes:
        """The text that ``/metrics`` answers with."""
        if self._ledger is None:
            return generate_latest(self._registry)
        self._ledger.write(self._registry.collect())
        return generate_latest(self._ledger)  # all it wants is ``collect``

    async def keep(self) -> None:
        """Write what is counted into the ledger, if there is one, again and again; a last time when cancelled."""
        while self._ledger is not None:
            try:
                await asyncio.sleep(WRITE_SECONDS)
            finally:
                self._ledger.write(self._registry.collect())
