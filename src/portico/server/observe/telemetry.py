"""OpenTelemetry: one trace per request, with a span per layer, over OTLP.

    POST /v1/chat/completions       SERVER, from the request's head to the end of its answer
      read validate template tokenize constrain check admit
      chat smollm2                  CLIENT: the engine, by the GenAI conventions, from hand-over to its last output
      decode parse encode write     from the first time to the last; ``portico.busy`` are the seconds at work

The caller's W3C trace context is continued, and goes on to the engine. Spans carry counts and names, never a word of
prompt or answer. They are made when the request is over and sent by a thread of their own: the event loop never waits
for a collector.

Conventions: OpenTelemetry's for HTTP servers and, in development there, for GenAI clients; names as in the package
opentelemetry-semantic-conventions 0.66.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from portico import __version__
from portico.errors import PorticoError
from portico.server.http.app import Outcome
from portico.server.http.exchange import Exchange
from portico.server.observe.spans import RequestSpans

__all__ = ["Telemetry"]

log = logging.getLogger("portico")

TRACES = "/v1/traces"
CLOSE_SECONDS = 3.0


class Telemetry:
    """Observes requests (see ``portico.server.http.app.Observer``) and sends their spans to ``endpoint``.

    ``endpoint`` is a collector's base URL; without one, the standard variables say it (``OTEL_EXPORTER_OTLP_*``).
    """

    def __init__(self, endpoint: str | None = None) -> None:
        attributes = {"service.version": __version__}
        named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not named:
            attributes["service.name"] = "portico"
        self._provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=_traces_url(endpoint))))
        self._tracer = self._provider.get_tracer("portico", __version__)
        self._spans: dict[Exchange, RequestSpans] = {}

    def begun(self, exchange: Exchange) -> None:
        """Begin the request's span, inside the caller's."""
        if exchange.method != "POST":  # to look at the server is no work
            return
        spans = RequestSpans(exchange, self._tracer)
        self._spans[exchange] = spans
        exchange.onlookers.append(spans)

    def refused(self, exchange: Exchange, error: PorticoError, raised: BaseException) -> None:
        """Note why, and by which layer."""
        if exchange in self._spans:
            self._spans[exchange].failed(error, raised)

    def ended(self, exchange: Exchange, outcome: Outcome, cause: str) -> None:
        """The request is over: make its spans."""
        spans = self._spans.pop(exchange, None)
        if spans is not None:
            spans.end(outcome)

    async def close(self) -> None:
        """Send what has not been sent; a collector that does not answer is not waited for long."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop did not wait
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=shut_down, daemon=True).start()  # a pool's thread would keep the process
        try:
            await asyncio.wait_for(sent.wait(), CLOSE_SECONDS)
        except TimeoutError:
            log.warning("the collector of spans does not answer; the last spans are lost")


def _traces_url(endpoint: str | None) -> str | None:
    """The URL that spans are posted to; None leaves it to the variables."""
    if endpoint is None or endpoint.endswith(TRACES):
        return endpoint
    return endpoint.rstrip("/") + TRACES
