"""Requests with one API key are counted over all workers, also when one is killed."""

from __future__ import annotations

import os

import pytest

from portico.errors import RateLimitError
from portico.keys import key_of
from portico.server.http.gate import Gate
from portico.server.process.places import shared_accounts, shared_table


def test_one_limit_over_all_workers() -> None:
    table = shared_table(2)
    a, b = key_of("a"), key_of("b")
    gates = [Gate(100, 2, shared_accounts(os.dup(table), 2, row)) for row in range(2)]
    with gates[0].passing(a), gates[1].passing(a):
        for gate in gates:
            with pytest.raises(RateLimitError), gate.passing(a):
                pass
            with gate.passing(b):
                pass
    with gates[0].passing(a), gates[0].passing(a):
        pass
    os.close(table)


def test_what_a_killed_worker_had_counted_is_forgotten() -> None:
    table = shared_table(2)
    killed, other = shared_accounts(os.dup(table), 2, 0), shared_accounts(os.dup(table), 2, 1)
    killed.visit(key_of("")).enter(1)
    with pytest.raises(RateLimitError):
        other.visit(key_of("")).enter(1)
    shared_accounts(os.dup(table), 2, 0)  # the one that is started in its place
    other.visit(key_of("")).enter(1)
    os.close(table)
