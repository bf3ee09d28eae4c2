"""Requests with one API key are counted over all workers, also when one is killed."""

from __future__ import annotations

import os

import pytest

from portico.errors import RateLimitError
from portico.server.http.gate import Gate
from portico.server.process.places import SharedCounts, shared_table

KEYS = ["a", "b"]


def test_one_limit_over_all_workers() -> None:
    table = shared_table(2, len(KEYS))
    gates = [Gate(100, 2, SharedCounts(os.dup(table), row, KEYS)) for row in range(2)]
    with gates[0].passing("a"), gates[1].passing("a"):
        for gate in gates:
            with pytest.raises(RateLimitError), gate.passing("a"):
                pass
            with gate.passing("b"):
                pass
    with gates[0].passing("a"), gates[0].passing("a"):
        pass
    os.close(table)


def test_what_a_killed_worker_had_counted_is_forgotten() -> None:
    table = shared_table(2, 1)
    killed, other = SharedCounts(os.dup(table), 0, []), SharedCounts(os.dup(table), 1, [])
    assert killed.take("", 1)
    assert not other.take("", 1)
    SharedCounts(os.dup(table), 0, [])  # the one that is started in its place
    assert other.take("", 1)
    os.close(table)
