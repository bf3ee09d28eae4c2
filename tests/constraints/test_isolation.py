"""The checker's memory: verdicts are kept, and not without bound."""

from __future__ import annotations

import pytest

from portico.constraints import Checker, isolation
from portico.errors import BadRequestError
from portico.events import Constraint


def grammar(number: int) -> Constraint:
    return Constraint(f'start: "{number}"\n')


def test_without_a_vocabulary_bytes_do() -> None:
    checker = Checker()
    try:
        checker.check(grammar(1))
        with pytest.raises(BadRequestError, match="cannot be compiled"):
            checker.check(Constraint("start: nowhere\n"))
    finally:
        checker.close()
        checker.close()


def test_verdicts_are_remembered_but_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "REMEMBERED", 3)
    checker = Checker()
    asked: list[str] = []
    ask = checker._children.ask

    def counting(lark: str) -> isolation._Verdict | None:
        asked.append(lark)
        return ask(lark)

    monkeypatch.setattr(checker._children, "ask", counting)
    try:
        for number in (1, 2, 3, 1, 4, 1, 2):
            checker.check(grammar(number))
        assert [lark[8] for lark in asked] == ["1", "2", "3", "4", "2"]
    finally:
        checker.close()


def test_a_checker_whose_process_was_killed_goes_on() -> None:
    import os
    import signal

    checker = Checker()
    try:
        checker.check(grammar(1))
        first = checker._children.pids[0]
        assert first is not None
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, os.WNOHANG)
        for number in (2, 3):
            try:
                checker.check(grammar(number))
            except BadRequestError:
                assert number == 2  # the pipe broke under this one
        assert checker._children.pids[0] != first
    finally:
        checker.close()
