"""What the lines have to do when somebody asks, under our names and under vLLM's, which autoscalers know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from portico.server.line.served import ServedModel

__all__ = ["Loads"]

RUNNING = "Engine requests that have begun to give output, by model."
WAITING = "Engine requests that wait for their first output, by model."


class Loads:
    """A collector of Prometheus' client library over ``models``, which may come later."""

    def __init__(self) -> None:
        self.models: Sequence[ServedModel] = ()

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
        loads = [(one.names[0], *one.line.load) for one in self.models]
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
        for one in self.models:
            restarts.add_metric([one.names[0]], getattr(one.line.engine, "restarts", 0))
        yield restarts
