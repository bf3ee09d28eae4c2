"""The gate lets in as many as it says and not one more, whatever comes and goes; of bodies the largest gives way."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from contextvars import Context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import OverloadedError, RateLimitError
from portico.keys import key_of
from portico.keys.accounts import VISIT, Accounts
from portico.server.http.gate import Bodies, Gate, Held

COMINGS = st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=60)


@given(COMINGS, st.integers(1, 5), st.none() | st.integers(1, 3))
def test_as_many_pass_as_may(comings: list[tuple[bool, str]], most: int, most_per_key: int | None) -> None:
    """Against the rule said plainly: a full house before a busy key, and a place is free again when its holder left."""
    accounts = Accounts()
    gate = Gate(most, most_per_key, accounts)
    inside: list[tuple[str, ExitStack]] = []
    for comes, key in comings:
        held = Counter(name for name, _ in inside)
        if not comes:
            position = next((at for at, (name, _) in enumerate(inside) if name == key), None)
            if position is not None:
                inside.pop(position)[1].close()
        elif len(inside) == most:
            with pytest.raises(OverloadedError) as full, gate.passing(key_of(key)):
                pass
            assert (full.value.code, full.value.retry_after) == ("queue_full", 1)
        elif most_per_key is not None and held[key] == most_per_key:
            told = f"At most {most_per_key} requests"
            with pytest.raises(RateLimitError, match=told) as busy, gate.passing(key_of(key)):
                pass
            assert busy.value.retry_after == 1
        else:
            inside.append((key, ExitStack()))
            inside[-1][1].enter_context(gate.passing(key_of(key)))
    for _, place in inside:
        place.close()
    assert (gate._inside, [one.in_flight for one in accounts.all() if one.in_flight]) == (0, []), "nobody is left"


def test_what_nobody_waits_for_takes_no_place_and_counts_for_its_key() -> None:
    accounts, context = Accounts(), Context()
    gate = Gate(1, accounts=accounts)
    with gate.passing(key_of("a")):
        context.run(gate.later, key_of("b"))
        visit = context[VISIT]
        assert visit is not None
        assert vars(visit) == vars(accounts.visit(key_of("b"), later=True))


def test_of_itself_it_lets_many_in() -> None:
    gate = Gate()
    with ExitStack() as places:
        for _ in range(1024):
            places.enter_context(gate.passing(key_of("a")))
        with pytest.raises(OverloadedError), gate.passing(key_of("b")):
            pass


told: list[tuple[str | None, float | None]] = []


async def arrive(bodies: Bodies, pieces: list[int], turn: asyncio.Event, over: list[str], name: str) -> None:
    try:
        with bodies.holding() as held:
            for size in pieces:
                await turn.wait()
                held.grow(size)
                await asyncio.sleep(0)
            await asyncio.Event().wait()
    except OverloadedError as error:
        over.append(name)
        told.append((error.code, error.retry_after))


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=5), min_size=1, max_size=6))
def test_what_is_held_is_bounded_and_the_largest_gives_way(bodies_: list[list[int]]) -> None:
    told.clear()

    async def main() -> None:
        bodies, turn, over = Bodies(100), asyncio.Event(), list[str]()
        tasks = [asyncio.create_task(arrive(bodies, pieces, turn, over, str(i))) for i, pieces in enumerate(bodies_)]
        turn.set()
        for _ in range(40):
            await asyncio.sleep(0)
            assert bodies._size <= 100
            assert bodies._size == sum(held.size for held in bodies._held)
        total = sum(map(sum, bodies_))
        assert bool(over) == (total > 100)
        assert set(told) <= {("queue_full", 1)}
        assert len(bodies._held) == len(bodies_) - len(over)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (bodies._size, bodies._held) == (0, set())

    asyncio.run(main())


async def test_the_largest_is_told_and_the_small_one_passes() -> None:
    bodies, turn, over = Bodies(100), asyncio.Event(), list[str]()
    turn.set()
    large = asyncio.create_task(arrive(bodies, [90], turn, over, "large"))
    await asyncio.sleep(0)
    with bodies.holding() as small:
        small.grow(10)
        await asyncio.sleep(0)
        assert not large.done()
        assert not over, "as much as may be is not too much"
        small.grow(1)
        await large
        assert over == ["large"]
        assert bodies._size == 11
        with pytest.raises(OverloadedError):
            small.grow(90)


async def test_who_is_cancelled_for_another_reason_is_cancelled() -> None:
    bodies, begun = Bodies(100), asyncio.Event()

    async def wait() -> None:
        with bodies.holding() as held:
            assert isinstance(held, Held)
            held.grow(5)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bodies._size == 0
