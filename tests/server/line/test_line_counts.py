"""What a line counts of its flights, and for whom: waits, tokens, ranks; once, whatever becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from portico.errors import EngineError
from portico.events import EngineRequest, SamplingParams
from portico.keys import KEY, Key
from portico.keys.accounts import ANSWER, VISIT, Accounts
from portico.server.line import line as step_loop
from portico.threads import CALLER
from support.line import House, Watching, output


@pytest.mark.parametrize("later", [False, True])
async def test_waits_are_counted_from_where_they_begin(later: bool) -> None:
    async with House() as house:
        flight = house.flight(spec={"n": 2}, later=later)
        await house.line.admit(flight)
        assert flight.admitted == 1000.0
        await house.give(output(flight, "a"), after=3.0)
        await house.give(output(flight, "b"), output(flight, "c", of=1), after=2.0)
        await house.give(output(flight, "d"), after=0.5)
        waits = house.told.of
        assert waits[later].first_token == [3.0, 5.0]
        assert waits[later].between_tokens == [2.0, 0.5]
        assert not any(waits[not later])
        assert flight.first_output == 1003.0


async def test_what_was_used_is_told_once() -> None:
    async with House() as house:
        house.line.called = "served"
        ann = Key(name="ann")
        token = KEY.set(ann)
        two, adapted, gone = house.flight(of=2), house.flight(spec={"lora": "dutch"}), house.flight()
        KEY.reset(token)
        for flight in (two, adapted, gone):
            await house.line.admit(flight)
        for position, cached in enumerate((2, None)):
            await house.give(output(two, "abc", "stop", of=position, cached_tokens=cached))
        await house.give(output(adapted, "ab", "length", cached_tokens=1), output(gone, "x"))
        house.line.abort(gone)
        used = [one[1:] for one in house.told if one[0] == "used"]
        assert used == [(ann, "served", 6, 2, 6), (ann, "dutch", 3, 1, 2), (ann, "served", 3, 0, 1)]
        house.line.called = ""
        assert house.line.name == "engine's own"


def left(accounts: Accounts, key: Key) -> int:
    tokens = accounts.visit(key).standing()[1]
    assert tokens is not None
    return tokens.remaining


@pytest.mark.parametrize(
    ("spec", "most", "of", "counted"),
    [
        ({}, 50, 1, 3 + 50),
        ({"n": 3}, 50, 1, 3 + 150),
        ({"n": 2}, 50, 2, 6 + 200),
        ({}, 1996, 1, 3 + 1996),
        ({}, 1997, 1, 3 + ANSWER),  # as much as there is room for: no bound that would say anything
        ({"prompt_ids": tuple(range(1990))}, 4000, 1, 1990 + 10),
    ],
)
async def test_tokens_are_counted_before_they_are_used(spec: Any, most: int, of: int, counted: int) -> None:
    accounts, key = Accounts(), Key(name="ann", tokens_per_minute=10_000)
    visit = accounts.visit(key)
    visit.enter(None)
    async with House() as house:
        VISIT.set(visit)
        flight = house.flight(of=of, spec={"sampling": SamplingParams(max_tokens=most), **spec})
        await house.line.admit(flight)
        assert left(accounts, key) == 10_000 - counted
        house.line.abort(flight)
        prompts = sum(len(one.spec.prompt_ids) for one in flight.generations)
        assert left(accounts, key) == 10_000 - prompts


async def test_embeddings_are_counted() -> None:
    accounts, key = Accounts(), Key(name="ann", tokens_per_minute=100)
    visit = accounts.visit(key)
    visit.enter(None)
    async with House() as house:
        ask = [[1, 2], [3]]
        await house.line.embed(ask)
        assert house.told == [("used", KEY.get(), "engine's own", 3, 0, 0)]
        VISIT.set(visit)
        assert (await house.line.embed(ask)).prompt_tokens == [2, 1]
        assert left(accounts, key) == 97
        with pytest.raises(EngineError):
            await house.line.embed([])
        assert left(accounts, key) == 97
        assert len(house.told) == 2


SALT = "s"


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("salted", [True, False, None])
async def test_a_key_has_its_rank_and_its_own_cache(able: bool, salted: bool | None) -> None:
    capabilities = ("generate", *(["cache_salt"] if able else []))

    async def asked(rank: int | None, caller: str, **spec: Any) -> EngineRequest:
        tokens = KEY.set(Key(name="ann", priority=rank)), CALLER.set(caller)
        try:
            await house.line.admit(house.flight(spec=spec))
        finally:
            KEY.reset(tokens[0])
            CALLER.reset(tokens[1])
        return house.engine.requests[-1]

    async with House(capabilities, **({} if salted is None else {"salted": salted})) as house:
        for rank, own, found in ((None, 5, 5), (3, 0, 3), (3, 3, 3), (3, 4, 4), (-2, -5, -2)):
            assert (await asked(rank, "", priority=own)).priority == found
        ann, again, bob = [(await asked(None, caller)).cache_salt for caller in ("ann", "ann", "bob")]
        assert ann == again
        if able and salted is not False:
            assert ann is not None
            assert bob is not None
            assert ann != bob
            assert len(ann) == len(bob) == 32
            assert "ann" not in ann
        else:
            assert ann is bob is None
        assert (await asked(None, "")).cache_salt is None, "where no key is needed all share"
        assert (await asked(None, "ann", cache_salt=SALT)).cache_salt == SALT


async def test_one_flight_in_many_is_measured_and_whoever_asks_watches_its_own() -> None:
    async with House() as house:
        asked: list[Any] = []

        def watching(choice: Any, position: int) -> Any:
            asked.append((choice, position, Watching()))
            return asked[-1][2]

        for number in range(2 * step_loop.MEASURED + 1):
            flight = house.flight(of=2, watches=[watching] if number == 5 else [])
            await house.line.admit(flight)
            await house.give(output(flight, "a"), output(flight, "b", of=1))
            if number == 5:
                assert [one[:2] for one in asked] == [(flight.generations[p].choices[0], p) for p in range(2)]
                assert [len(one[2].seen["took"]) for one in asked] == [1, 1]
        assert len(house.told.measure.seen["took"]) == 3 * 2, "the first, and each behind so many"
