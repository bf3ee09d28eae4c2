"""What the lines have to do when somebody asks, under our names and under vLLM's, which autoscalers know."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from portico.engines import TellsCacheUsage
from portico.server.line.served import Served

__all__ = ["Loads"]

RUNNING = "Engine requests that have begun to give output, by model."
CACHE = "The share (0 to 1) of the KV cache that running requests hold, by model."
WAITING = "Engine requests that wait for their first output, by model."


class Loads:
    """A collector of Prometheus' client library over what is ``served``, which may come later."""

    def __init__(self) -> None:
        self.served: Served | None = None

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
        models = self.served.models if self.served is not None else ()
        loads = [(one.names[0], *one.line.load) for one in models]
        for prefix, label in (("portico_requests", "model"), ("vllm:num_requests", "model_name")):
            running = GaugeMetricFamily(f"{prefix}_running", RUNNING, labels=[label])
            waiting = GaugeMetricFamily(f"{prefix}_waiting", WAITING, labels=[label])
            for name, begun, queued in loads:
                running.add_metric([name], begun)
                waiting.add_metric([name], queued)
            yield from (running, waiting)
        restarts = CounterMetricFamily(
            "portico_engine_restarts", "Engines that were started again by this server, by model.", labels=["model"]
        )
        for one in models:
            restarts.add_metric([one.names[0]], getattr(one.line.engine, "restarts", 0))
        yield restarts
        for full, label in (("portico_kv_cache_usage", "model"), ("vllm:kv_cache_usage_perc", "model_name")):
            usage = GaugeMetricFamily(full, CACHE, labels=[label])
            for one in models:
                engine = one.line.engine
                if isinstance(engine, TellsCacheUsage) and engine.cache_usage is not None:
                    usage.add_metric([one.names[0]], engine.cache_usage)
            yield usage
        yield from _loaded(self.served)


def _loaded(served: Served | None) -> Iterator[Metric]:
    loaded = GaugeMetricFamily("portico_model_loaded", "1 while the model is loaded.", labels=["model"])
    waiting = GaugeMetricFamily(
        "portico_model_waiting", "Requests that wait for the model to be loaded.", labels=["model"]
    )
    loads = CounterMetricFamily("portico_model_loads", "Times that the model was loaded.", labels=["model"])
    if served is not None:
        for offer in served.offers.offers:
            loaded.add_metric([offer.names[0]], float(offer.state == "loaded"))
            waiting.add_metric([offer.names[0]], served.offers.waiting(offer))
            loads.add_metric([offer.names[0]], offer.loads)
    yield from (loaded, waiting, loads)
