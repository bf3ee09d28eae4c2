"""One page of metrics for all workers: each writes what it has counted into a file of its own, and reads all files.

The files are those of a table without names that the workers inherit, one row each. A row outlives its worker: who is
started in its place goes on from its counters, so that no sum ever goes backwards, however workers end; what a killed
one counted in its last moments (``WRITE_SECONDS``) is lost. Every page is made from the files alone, whoever answers.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from prometheus_client.metrics_core import Metric

from portico.inherited import locked, nameless

__all__ = ["WRITE_SECONDS", "Ledger", "rows"]

WRITE_SECONDS = 0.5

_HEAD = struct.Struct("<QQ")  # where what is valid begins, and its size; written after it, in one piece
_OF_ALL = ("_info", "_max_fds", "_loaded", "_usage", "_usage_perc")  # what each worker sees whole
_SLOTS = (4096, 1 << 26)  # of a sparse file: while one is written, the other is valid


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One line of the page."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, array_like=True):
    """A metric with all its lines."""

    name: str
    text: str
    kind: str
    samples: list[Sample]


Page = list[Family]


def rows(workers: int) -> list[int]:
    """Descriptors of so many empty rows, for workers to inherit."""
    return [nameless() for _ in range(workers)]


class Ledger:
    """One worker's view of the ``rows``, of which it writes the one at ``own``."""

    def __init__(self, rows: Sequence[int], own: int) -> None:
        self._rows = rows
        self._own = rows[own]
        self._slot = 0
        self._before = [lasting for family in _read(self._own) if (lasting := _lasting(family)) is not None]

    def write(self, counted: Iterable[Metric]) -> None:
        """This is what the worker has counted so far."""
        content = msgspec.msgpack.encode(_merged([self._before, _page(counted)]))
        self._slot = 1 - self._slot
        with locked(self._own):
            os.pwrite(self._own, content, _SLOTS[self._slot])
            os.pwrite(self._own, _HEAD.pack(_SLOTS[self._slot], len(content)), 0)

    def collect(self) -> Iterator[Metric]:
        """What all workers have counted, as a registry gives it."""
        for family in _merged(map(_read, self._rows)):
            metric = Metric(family.name, family.text, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def _page(metrics: Iterable[Metric]) -> Page:
    return [
        Family(
            one.name,
            one.documentation,
            one.type,
            [Sample(sample.name, sample.labels, sample.value) for sample in one.samples],
        )
        for one in metrics
    ]


def _merged(pages: Iterable[Page]) -> Page:
    """The page of all: sums, but of times the first, and of what each sees whole the largest."""
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for page in pages:
        for family in page:
            families.setdefault(family.name, family)
            found = values.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                found[key] = _both(sample.name, found[key], sample.value) if key in found else sample.value
    return [
        Family(
            one.name,
            one.text,
            one.kind,
            [Sample(sample, dict(labels), value) for (sample, labels), value in values[one.name].items()],
        )
        for one in families.values()
    ]


def _both(name: str, one: float, other: float) -> float:
    if name.endswith(("_created", "_start_time_seconds")):
        return min(one, other)
    return max(one, other) if name.endswith(_OF_ALL) else one + other


def _lasting(family: Family) -> Family | None:
    """What is left of it when its worker is gone: what was counted. What was in flight is not any more."""
    return family if family.kind in ("counter", "histogram") else None


def _read(row: int) -> Page:
    with locked(row):
        head = os.pread(row, _HEAD.size, 0)
        if not head:
            return []
        begin, size = _HEAD.unpack(head)
        content = os.pread(row, size, begin)
    return msgspec.msgpack.decode(content, type=list[Family])
