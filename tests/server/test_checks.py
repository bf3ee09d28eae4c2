"""Trying grammars out for many clients: those made to cost hold up nobody but their own kind."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from portico.constraints import Checker, compile_constraint
from portico.errors import OverloadedError
from portico.generation import Generation
from portico.grammar import Json
from portico.server.line import model as lines_model
from portico.server.line.model import ServedModel
from portico.threads import Threads


class _Spec:
    def __init__(self, schema: Any) -> None:
        compiled = compile_constraint(answer=Json(schema, "response_format"))
        assert compiled is not None
        self.constraint = compiled.constraint


class _Decided:
    """As much of a generation as a check looks at."""

    def __init__(self, schema: Any) -> None:
        self.spec = _Spec(schema)


def decided(schema: Any) -> list[Generation]:
    return [cast(Generation, _Decided(schema))]


def bomb(number: int) -> list[Generation]:
    """Takes all the time that a trial may take."""
    return decided({"allOf": [{"type": "string", "pattern": f"a.{{{n}}}b{number}"} for n in range(40)]})


def over(checker: Checker) -> ServedModel:
    return ServedModel(cast(Any, None), ["m"], cast(Any, None), checker)


def test_an_ordinary_schema_does_not_wait_for_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_model, "_COSTLY", Threads("costly grammars", 1, waiting=16))

    async def run() -> None:
        checker = Checker()
        model = over(checker)
        try:
            await model.check(decided({"type": "integer"}))
            bombs = [asyncio.ensure_future(model.check(bomb(number))) for number in range(2)]
            await asyncio.sleep(0)
            ordinary = decided({"type": "object", "properties": {"a": {"type": "string"}}})
            assert not model.knows(ordinary)
            await model.check(ordinary)
            assert model.knows(ordinary)
            assert not all(task.done() for task in bombs)
        finally:
            checker.close()

    asyncio.run(run())


@pytest.mark.slow
def test_too_many_costly_ones_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_model, "_COSTLY", Threads("costly grammars", 1, waiting=1))

    async def run() -> None:
        checker = Checker()
        model = over(checker)
        try:
            tasks = [asyncio.ensure_future(model.check(bomb(number))) for number in range(4)]
            found = await asyncio.gather(*tasks, return_exceptions=True)
            full = [one for one in found if isinstance(one, OverloadedError)]
            assert 0 < len(full) < 4
            assert all(one.retry_after for one in full)
        finally:
            checker.close()

    asyncio.run(run())
