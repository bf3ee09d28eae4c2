"""A helper process: it answers, it is killed when it must be, and it does not outlive its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from portico.child import Child

HELPER = """
import sys, time
from portico.child import answer_frames

greeting = []

def work(frame):
    if frame == b"spin":
        while True:
            pass
    if frame == b"native":
        sum(range(10**12))  # one step of the interpreter
    if frame == b"sleep":
        time.sleep(60)
    if frame == b"memory":
        return bytes(10**9)[:1]
    if frame == b"die":
        sys.exit(3)
    return greeting[0] + frame[::-1]

answer_frames(work, greet=greeting.append, cpu_seconds=0.3, memory=200 * 1024 * 1024)
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    (tmp_path / "portico_test_helper.py").write_text(HELPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Child("portico_test_helper", seconds=5, greeting=b"hello ")


def test_answers(helper: Child) -> None:
    try:
        assert helper.ask(b"abc") == b"hello cba"
        first = helper.pid
        assert helper.ask(b"x" * 1_000_000) == b"hello " + b"x" * 1_000_000
        assert helper.pid == first
    finally:
        helper.close()
    assert helper.pid is None


@pytest.mark.parametrize("question", [b"spin", b"native", b"memory", b"die"])
def test_what_it_cannot_answer_costs_only_itself(helper: Child, question: bytes) -> None:
    try:
        helper.start()
        begin = time.perf_counter()
        assert helper.ask(question) is None
        assert time.perf_counter() - begin < 4  # the processor-time limit, not the wall-clock one
        assert helper.ask(b"abc") == b"hello cba"
    finally:
        helper.close()


def test_waiting_is_limited_by_the_clock(helper: Child) -> None:
    helper.seconds = 0.3
    try:
        helper.start()
        begin = time.perf_counter()
        assert helper.ask(b"sleep") is None
        assert time.perf_counter() - begin < 4
    finally:
        helper.close()


def test_questions_from_many_threads(helper: Child) -> None:
    answers: dict[int, bytes | None] = {}
    threads = [
        threading.Thread(target=lambda n=n: answers.update({n: helper.ask(str(n).encode())}))  # type: ignore[misc]
        for n in range(100, 120)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {n: b"hello " + str(n).encode()[::-1] for n in range(100, 120)}
    finally:
        helper.close()


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="could not be started"):
        Child("portico_no_such_module", seconds=1).start()


def test_the_environment_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "portico_test_environment.py").write_text(
        "import os; from portico.child import answer_frames\n"
        "answer_frames(lambda frame: os.environ.get(frame.decode(), '-').encode(), cpu_seconds=1, memory=10**9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", "secret")
    child = Child("portico_test_environment", seconds=5)
    try:
        assert child.ask(b"SECRET_KEY") == b"-"
    finally:
        child.close()


def test_it_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    (tmp_path / "portico_test_helper.py").write_text(HELPER)
    parent = textwrap.dedent("""
        import os, sys
        from portico.child import Child
        child = Child("portico_test_helper", seconds=5, greeting=b"")
        child.ask(b"abc")
        print(child.pid, flush=True)
        os.kill(os.getpid(), 9)
    """)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, env=environment, check=False
    )
    pid = int(result.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return  # ended, and not yet collected by whoever inherited it
        time.sleep(0.05)
    raise AssertionError("the helper is still there")
