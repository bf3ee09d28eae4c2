"""OpenMP's threads spin while the machine is quiet and sleep while it is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.engines.llamacpp.waiting import CROWDED, ENVIRONMENT, QUIET, Crowding, delayed_seconds


@given(st.lists(st.floats(0, 2), max_size=30))
def test_it_turns_at_one_share_and_back_at_another(shares: list[float]) -> None:
    crowding, seconds, delayed, crowded = Crowding(), 0.0, 0.0, False
    for share in shares:
        seconds, delayed = seconds + 1, delayed + share
        turned = crowding.look(seconds, delayed)
        assert turned == (crowding.crowded != crowded)
        if abs(share - CROWDED) > 1e-6 and abs(share - QUIET) > 1e-6:
            assert crowding.crowded == (share > (QUIET if crowded else CROWDED))
        crowded = crowding.crowded


def test_no_time_has_passed() -> None:
    crowding = Crowding()
    assert not crowding.look(0.0, 0.0)
    assert not crowding.look(0.0, 5.0)


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


@pytest.mark.skipif(delayed_seconds() is None, reason="this system does not tell how long threads wait for a processor")
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
