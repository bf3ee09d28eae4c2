"""OpenMP's threads spin while the machine is quiet and sleep while it is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.engines.llamacpp.waiting import CROWDED, ENVIRONMENT, QUIET, Crowding, running_and_delayed


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=30))
def test_it_turns_at_one_share_and_back_at_another(spans: list[tuple[int, int]]) -> None:
    crowding, running, delayed, crowded = Crowding(), 0, 0, False
    for ran, waited in spans:
        running, delayed = running + ran, delayed + waited
        turned = crowding.look(running, delayed)
        assert turned == (crowding.crowded != crowded)
        if ran + waited:
            assert crowding.crowded == (waited > (QUIET if crowded else CROWDED) * (ran + waited))
        else:
            assert not turned, "who did nothing learned nothing"
        crowded = crowding.crowded


@pytest.mark.parametrize("was", [False, True])
def test_whose_threads_have_ended_says_nothing(was: bool) -> None:
    crowding = Crowding()
    crowding.look(1, 9 if was else 0)
    assert not crowding.look(0, 0)
    assert crowding.crowded == was


THREADS = """
import os, time
from portico.engines.llamacpp.waiting import Waiting

def threads(): return len(os.listdir("/proc/self/task"))

waiting, before = Waiting(), threads()
for _ in range(3):
    waiting.sleep()
    while threads() <= before + os.cpu_count():
        time.sleep(0.01)
    waiting.spin()
    while threads() > before:
        time.sleep(0.01)
waiting.spin()
print("done")
"""


@pytest.mark.skipif(running_and_delayed() is None, reason="this system does not tell how long threads wait")
def test_the_threads_that_only_wait_come_and_go() -> None:
    told = subprocess.run(
        [sys.executable, "-c", THREADS],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, **ENVIRONMENT},
    )
    assert told.stdout == "done\n"
