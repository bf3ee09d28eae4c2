"""Whatever a client sends as a schema or grammar is refused with a reason or followed, soon, and nothing dies of it."""

from __future__ import annotations

from typing import Any

import pytest

from portico.constraints import Checker, answer_grammar
from portico.errors import BadRequestError
from portico.events import Constraint
from support.constraints import bare_constraint
from support.hostile_schemas import HARMLESS, REFUSED
from support.vocabulary import Model

FIELD = "response_format.json_schema.schema"


def constraint_of(schema: Any, *, strict: bool = True) -> Constraint:
    given = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": strict}}
    constraint = bare_constraint(answer=answer_grammar(given))
    assert constraint is not None
    return constraint


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason_and_the_field(name: str, checker: Checker) -> None:
    schema, words = REFUSED[name]
    checker.start()
    with pytest.raises(BadRequestError) as caught:
        checker.check(constraint_of(schema))
    assert words in caught.value.message
    assert (caught.value.param, caught.value.code) in ((FIELD, "invalid_grammar"), (FIELD, "invalid_json_schema"))
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name: str, checker: Checker) -> None:
    checker.check(constraint_of(HARMLESS[name]))


@pytest.mark.parametrize("keyword", ["unique", "not", "conditional", "dependent"])
def test_without_strict_what_no_grammar_holds_is_left_out(keyword: str, checker: Checker) -> None:
    checker.check(constraint_of(REFUSED[keyword][0], strict=False))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("regex", "(?=a)b", "look-around"),
        ("regex", "(", "unclosed group"),
        ("regex", "a" * 3000, "1 to 2000 characters"),
        ("grammar", 'root ::= "a', "line 1 is not GBNF"),
        ("grammar", "start: missing", "unknown name"),
        ("grammar", "start: start", "nothing satisfies it"),
        ("grammar", "start: /a(/", "unclosed group"),
        ("grammar", 'start: "a" }\n injected: "x"', "cannot be compiled"),
        ("grammar", "x" * 70_000, "1 to 64000 characters"),
        ("choice", [], "a list of 1 to 2000 strings"),
        ("choice", ["a", 1], "hold strings"),
        ("json", "{", "not valid JSON"),
        ("json", "[" * 100_000, "not valid JSON"),
    ],
)
def test_extensions_are_refused_as_well(field: str, value: Any, words: str, checker: Checker) -> None:
    error = refusal({field: value}, checker)
    assert error is not None
    assert words in error.message
    assert error.param == f"structured_outputs.{field}"


@pytest.mark.parametrize(
    "given",
    [
        {"regex": "(?:.*a.{300}){20}b" * 3},
        {"json": {"type": "string", "pattern": "^(.*a.{200}|.*b.{201}|.*c.{202})$"}},
        {"grammar": "\n".join(["root ::= r0", *(f"r{n} ::= r{n + 1} r{n + 1}" for n in range(60)), 'r60 ::= "a"'])},
        {"grammar": "\n".join(["start: r0", *(f"r{n}: r{n + 1} r{n + 1}" for n in range(60)), 'r60: "a" | '])},
        {"grammar": "start: " + "(" * 5000 + '"a"' + ")" * 5000},
        {"grammar": 'start: ("a"{1,1000}){1,1000}'},
        {"choice": ["ab" * 900 + str(n) for n in range(1999)]},
        {"choice": ["ab" * 12 + str(n) for n in range(1999)]},
    ],
    ids=["regex", "states", "doubling", "doubling with nothing", "parentheses", "counts", "long choices", "choices"],
)
def test_a_verdict_comes_whatever_it_is(given: Any, checker: Checker) -> None:
    error = refusal(given, checker)
    assert error is None or error.param == f"structured_outputs.{next(iter(given))}"


def refusal(structured_outputs: Any, checker: Checker) -> BadRequestError | None:
    try:
        constraint = bare_constraint(answer=answer_grammar(None, structured_outputs))
        assert constraint is not None
        checker.check(constraint)
    except BadRequestError as error:
        return error
    return None


def test_a_grammar_that_takes_minutes_kills_its_process_and_no_other(model: Model) -> None:
    """The same schema that is refused by its size, as a constraint made past that check."""
    checker = Checker(model.vocabulary)
    try:
        minutes = Constraint('start: %json {"type": "integer", "multipleOf": 999983}\n')
        fine = Constraint('start: "a" | "b"\n')
        checker.check(fine)
        with pytest.raises(BadRequestError, match="too much time or memory"):
            checker.check(minutes)
        checker.check(Constraint('start: "c"\n'))
        before = checker._costly.pids
        with pytest.raises(BadRequestError, match="too much time or memory"):
            checker.check(minutes)
        assert checker._costly.pids == before  # remembered: nobody was asked and killed
    finally:
        checker.close()
