"""Histograms that are observed once per token or step: one of the client library would cost more than the rest of it.

They count in plain lists, and take Prometheus' form when somebody reads them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import HistogramMetricFamily, Metric

__all__ = ["LightHistogram", "LightHistograms"]


class LightSeries:
    """A series of a histogram whose ``observe`` is a bisection and two additions."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> None:
        """Add it in the cumulative form that Prometheus reads."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip([*map(repr, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric(labels, buckets, self._sum)


class LightHistogram(LightSeries):
    """A histogram of one series."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self._name, self._text = name, text

    def collect(self) -> Iterator[Metric]:
        """As a registry wants it."""
        family = HistogramMetricFamily(self._name, self._text)
        self.add_to(family)
        yield family


class LightHistograms:
    """A histogram with a series for each of the values of one label."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...], label: str, values: Sequence[str]) -> None:
        self._name, self._text, self._labelnames = name, text, (label,)
        self._series = {value: LightSeries(bounds) for value in values}

    def labels(self, value: str) -> LightSeries:
        """The series of that value."""
        return self._series[value]

    def collect(self) -> Iterator[Metric]:
        """As a registry wants it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labelnames)
        for value, one in self._series.items():
            one.add_to(family, [value])
        yield family
