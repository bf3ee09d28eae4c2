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

from portico.child import Children
from portico.errors import BadRequestError, OverloadedError

HELPER = """
import sys, time
from portico.child import answer_questions
from portico.errors import BadRequestError

greeting = []

def work(frame):
    if frame == b"no":
        raise BadRequestError("not so", param="here", code="why")
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

answer_questions(work, bytes, greet=greeting.append, greetings=bytes, cpu_seconds=0.3, memory=200 * 1024 * 1024)
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Children[bytes]:
    (tmp_path / "portico_test_helper.py").write_text(HELPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Children("portico_test_helper", bytes, seconds=300, greeting=b"hello ")


def test_answers(helper: Children[bytes]) -> None:
    try:
        assert helper.ask(b"abc") == b"hello cba"
        first = helper.pids
        assert helper.ask(b"x" * 1_000_000) == b"hello " + b"x" * 1_000_000
        assert helper.pids == first
    finally:
        helper.close()
    assert helper.pids == []


@pytest.mark.parametrize("question", [b"spin", b"native", b"memory", b"die"])
def test_what_it_cannot_answer_costs_only_itself(helper: Children[bytes], question: bytes) -> None:
    try:
        helper.start()
        assert helper.ask(question) is None  # the processor-time limit, not the wall-clock one
        assert helper.ask(b"abc") == b"hello cba"
    finally:
        helper.close()


def test_waiting_is_limited_by_the_clock(helper: Children[bytes]) -> None:
    hurried = Children("portico_test_helper", bytes, seconds=0.3, greeting=b"hello ")
    try:
        hurried.start()
        with pytest.raises(OverloadedError):  # it has used no processor time: no fault of the question's
            hurried.ask(b"sleep")
        assert hurried.pids == []
    finally:
        hurried.close()


def test_questions_from_many_threads(helper: Children[bytes]) -> None:
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


def test_refusals_cross(helper: Children[bytes]) -> None:
    try:
        with pytest.raises(BadRequestError, match="not so") as refused:
            helper.ask(b"no")
        assert (refused.value.param, refused.value.code) == ("here", "why")
        first = helper.pids
        assert helper.ask(b"abc") == b"hello cba"
        assert helper.pids == first, "a refusal costs no process"
    finally:
        helper.close()


def test_several_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one child is stuck the other answers."""
    (tmp_path / "portico_test_helper.py").write_text(HELPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    helpers = Children("portico_test_helper", bytes, seconds=300, greeting=b"hello ", count=2)
    stuck = threading.Thread(target=helpers.ask, args=(b"sleep",), daemon=True)
    try:
        helpers.start()
        stuck.start()
        while helpers.idle == 2:
            time.sleep(0.01)
        assert helpers.ask(b"abc") == b"hello cba"
        assert len(helpers.pids) == 2
    finally:
        for pid in helpers.pids:
            os.kill(pid, 9)
        stuck.join()
        helpers.close()


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="could not be started"):
        Children("portico_no_such_module", bytes, seconds=1).start()


def test_the_environment_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "portico_test_environment.py").write_text(
        "import os; from portico.child import answer_questions\n"
        "answer_questions(lambda name: os.environ.get(name, '-'), str, cpu_seconds=1, memory=10**9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", "secret")
    child = Children("portico_test_environment", str, seconds=5)
    try:
        assert child.ask("SECRET_KEY") == "-"
    finally:
        child.close()


def test_it_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    (tmp_path / "portico_test_helper.py").write_text(HELPER)
    parent = textwrap.dedent("""
        import os, sys
        from portico.child import Children
        child = Children("portico_test_helper", bytes, seconds=5, greeting=b"")
        child.ask(b"abc")
        print(child.pids[0], flush=True)
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
