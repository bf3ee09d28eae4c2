"""A model that is loaded: the names that it answers to, and its grammars, which are tried out beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from portico.errors import BadRequestError
from portico.events import Constraint, SamplingParams
from portico.generation import Generation, GenerationSpec
from portico.server.line.endings import Endings
from portico.server.line.model import ServedModel
from support.generation import tiny_model

MODEL = tiny_model()
PLAIN, COSTLY, OWN = (
    Constraint(lark) for lark in ('start: "a"', 'start: "' + "a" * 100_000 + '"', '%llguidance {}\nstart: "a"')
)


class Checker:
    """Knows one grammar, and refuses those without a start."""

    def __init__(self) -> None:
        self.tried: list[tuple[Constraint, str]] = []

    def knows(self, constraint: Constraint) -> bool:
        return constraint == Constraint("known")

    def check(self, constraint: Constraint) -> None:
        self.tried.append((constraint, threading.current_thread().name))
        if "start" not in constraint.lark:
            raise BadRequestError("No start.")


def generations(constraint: Constraint | None) -> list[Generation]:
    spec = GenerationSpec(request_id="r", prompt_ids=(1,), sampling=SamplingParams(max_tokens=5), constraint=constraint)
    return [Generation(spec, MODEL.tokenizer)]


def served(checker: Checker | None) -> ServedModel:
    adapters = [tiny_model(name="dutch", parent="tiny"), tiny_model(name="frisian", parent="tiny")]
    return ServedModel(MODEL, ["tiny", "small"], cast(Any, None), cast(Any, checker), adapters)


async def test_what_is_costly_keeps_nothing_else_waiting() -> None:
    checker = Checker()
    for one in (PLAIN, COSTLY, OWN):
        assert not served(checker).knows(generations(one))
        await served(checker).check(generations(one))
    assert [one for one, _ in checker.tried] == [PLAIN, COSTLY, OWN]
    names = [name for _, name in checker.tried]
    assert names[0] not in names[1:], "it has a thread of its own"
    assert threading.current_thread().name not in names
    with pytest.raises(BadRequestError, match="No start"):
        await served(checker).check(generations(Constraint("x")))


@pytest.mark.parametrize("constraint", [None, Constraint("known"), PLAIN])
async def test_nothing_is_tried_that_needs_no_trial(constraint: Constraint | None) -> None:
    for checker in (None, Checker()):
        model, asked = served(checker), generations(constraint)
        needed = checker is not None and constraint is PLAIN
        assert model.knows(asked) is not needed
        await model.check(asked)
        assert len(checker.tried if checker else ()) == needed


def test_it_is_what_it_is_called() -> None:
    model = served(None)
    assert model.called("tiny") is model
    for name in ("small", "whatever"):
        found = model.called(name)
        assert (found.model.name, found.model.label, found.names) == (name, "tiny", ["tiny", "small"])
        assert found.adapters == model.adapters
        assert found.called("other").model.label == "tiny", "whatever clients call it"
    for adapter in model.adapters:
        found = model.called(adapter.name)
        assert (found.model, found.names, found.adapters) == (adapter, [adapter.name], ())


async def test_what_ends_may_begin_more_and_all_of_it_is_waited_for() -> None:
    endings, done, never = Endings(), [], asyncio.Event()

    async def first() -> None:
        await asyncio.sleep(0)
        endings.begin(second())
        done.append(1)

    async def second() -> None:
        await asyncio.sleep(0)
        done.append(2)

    async def endless() -> None:
        await never.wait()

    assert await endings.wait(60.0) == 0
    endings.begin(first())
    assert await endings.wait(60.0) == 0
    assert done == [1, 2]
    tasks = [endings.begin(endless()) for _ in range(2)]
    assert await endings.wait(0.01) == 2
    assert await endings.wait(0.0) == 2
    never.set()
    assert await endings.wait(60.0) == 0
    assert all(task.done() for task in tasks)
