"""The checker: verdicts are kept, and not without bound; what may be costly has processes of its own."""

from __future__ import annotations

import pytest
from llguidance import LLParserLimits

from portico.constraints import Checker, Limits, compile_constraint, is_plain, isolation, trial
from portico.errors import BadRequestError
from portico.events import Constraint
from portico.grammar import Grammar, Json, Pattern, Verbatim
from support.agent_schemas import SCHEMAS
from support.hostile_schemas import REFUSED


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
    ask = checker._plain.ask

    def counting(lark: str) -> isolation._Verdict | None:
        asked.append(lark)
        return ask(lark)

    monkeypatch.setattr(checker._plain, "ask", counting)
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
        first = checker._plain.pids[0]
        assert first is not None
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, os.WNOHANG)
        for number in (2, 3):
            try:
                checker.check(grammar(number))
            except BadRequestError:
                assert number == 2  # the pipe broke under this one
        assert checker._plain.pids[0] != first
    finally:
        checker.close()


def held(answer: Grammar) -> Constraint:
    compiled = compile_constraint(answer=answer, limits=Limits(multiple_of=10**9))
    assert compiled is not None
    return compiled.constraint


ORDINARY = set(SCHEMAS) - {
    "pydantic",
    "openapi",
    "patterns",
    "named map",
    "untyped",
}  # which have patterns of their own


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_ordinary_schemas_are_plain(name: str) -> None:
    assert is_plain(held(Json(SCHEMAS[name], "x", strict=False)))


@pytest.mark.parametrize(
    "answer",
    [
        *(Json(REFUSED[name][0], "x") for name in ("intersection", "wide alternatives", "multiple", "many optional")),
        Json({"type": "object", "patternProperties": {"^a{500}": {}}}, "x"),
        Pattern("(?:.*a.{300}){20}b", "x"),
        Verbatim('start: ("a"{1,1000}){1,1000}', "x"),
    ],
)
def test_what_may_be_costly_is_not_plain(answer: Grammar) -> None:
    assert not is_plain(held(answer))


def test_the_verdict_is_known_without_asking() -> None:
    checker = Checker()
    good, bad = grammar(1), Constraint("// field: tool\nstart: nowhere\n")
    try:
        assert not checker.knows(good)
        checker.check(good)
        with pytest.raises(BadRequestError, match="cannot be compiled") as first:
            checker.check(bad)
        checker.close()
        assert checker.knows(good)
        with pytest.raises(BadRequestError) as again:
            checker.knows(bad)
        told = [(one.value.message, one.value.param, one.value.code) for one in (first, again)]
        assert told[0] == told[1]
        assert told[0][1:] == ("tool", "invalid_grammar")
        assert checker._plain.pids == []
    finally:
        checker.close()


@pytest.mark.parametrize(
    ("limit", "rules"),
    [
        ({"max_lexer_states": 20}, "start: T\nT: /([a-z][0-9]){90}/"),
        ({"step_max_items": 3}, 'start: s\ns: s s | "ab" | "ac" s'),
        ({"max_grammar_size": 9}, 'start: "a" | "b" start | "c" start "d"'),
    ],
)
def test_what_outgrows_a_limit_is_too_large(limit: dict[str, int], rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is compiled, or only while it is followed."""
    monkeypatch.setattr(trial, "_LIMITS", LLParserLimits(verbose_errors=False, **limit))
    with pytest.raises(BadRequestError, match=r"^tool cannot be compiled: it is too large or too complex") as caught:
        trial.try_out(f"// field: tool\n{rules}\n", trial.byte_vocabulary().build())
    assert (caught.value.param, caught.value.code) == ("tool", "invalid_grammar")
