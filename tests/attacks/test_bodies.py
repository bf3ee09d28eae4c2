"""Bodies made to stall the server are refused by name, cheaply, while everybody else is served.

Small by default; ``-m slow`` sends them in full size. What is asserted are counts and bounds that no slow machine
breaks: the stalls are printed (``-s``), and ``benchmarks/attacks.py`` measures them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.attacks import ALLOWED, ATTACKS, Attack, assault, serves
from support.server import RunningServer, running_server

SPARE = 96 << 20  # bytes that may come and go with anything: pieces being looked at, what the allocator keeps


@pytest.fixture(scope="module")
def server(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    recorded = tmp_path_factory.mktemp("replay") / "answers.jsonl"
    recorded.write_text(json.dumps({"text": "hello"}) + "\n")
    with running_server("smollm2", "--engine", f"replay:{recorded}", "--log-level", "error") as up:
        yield up


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("size", ["small", pytest.param("full", marks=pytest.mark.slow)])
def test_is_refused_and_stalls_nobody(server: RunningServer, attack: Attack, size: str) -> None:
    cost = assault(server.url, attack, getattr(attack, size), server.process.pid)
    print(f"\n{attack.name}: {cost.body / 1e6:.1f} MB, {cost.status} after {cost.took:.2f} s, ", end="")
    print(f"/health {cost.stall * 1000:.0f} ms, {cost.memory / 1e6:.0f} MB")
    assert cost.status == 400, cost.answer[:500]
    assert len(cost.answer) < 2048
    if attack.param is not None:
        assert attack.param in cost.answer.decode()
    assert cost.healthy
    assert cost.memory <= 3 * cost.body + SPARE
    assert serves(server.url)


@pytest.mark.parametrize("attack", ALLOWED, ids=lambda attack: attack.name)
@pytest.mark.parametrize("size", ["small", pytest.param("full", marks=pytest.mark.slow)])
def test_the_largest_that_is_allowed_stalls_nobody(server: RunningServer, attack: Attack, size: str) -> None:
    cost = assault(server.url, attack, getattr(attack, size), server.process.pid)
    print(f"\n{attack.name}: {cost.body / 1e6:.1f} MB, {cost.status} after {cost.took:.2f} s, ", end="")
    print(f"/health {cost.stall * 1000:.0f} ms, {cost.memory / 1e6:.0f} MB")
    assert cost.status in (200, 400), cost.answer[:500]
    assert cost.healthy
    assert cost.memory <= 3 * cost.body + SPARE
    assert serves(server.url)
