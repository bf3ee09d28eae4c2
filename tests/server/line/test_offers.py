"""Models come and go: nothing that is used is unloaded, no more are loaded than may be, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portico.errors import EngineDeadError, OverloadedError
from portico.server.line.offers import Offers
from support.effort import examples
from support.offers import NAMES, House, turns
from support.wait import SAFETY

names = st.sampled_from(NAMES)
deeds = st.one_of(
    st.tuples(st.just("request"), names, st.integers(0, 12)),
    st.tuples(st.just("unload"), names),
    st.tuples(st.just("change"), names, st.integers(0, 2)),
    st.tuples(st.just("bound"), st.integers(1, 3)),
)


GONE_WHILE_WAITED_FOR = [
    (("request", "a", 2), 1, False),
    (("request", "b", 3), 3, False),
    (("change", "b", 1), 0, False),
    (("request", "b", 3), 0, False),
]


@settings(max_examples=examples(60))
@example(GONE_WHILE_WAITED_FOR, 1, 0, set())
@given(
    st.lists(st.tuples(deeds, st.integers(0, 5), st.booleans()), max_size=25),
    st.one_of(st.none(), st.integers(1, 3)),
    st.integers(0, 4),
    st.sets(names, max_size=1),
)
def test_any_interleaving(
    script: list[tuple[tuple[Any, ...], int, bool]], most: int | None, slow: int, fail: set[str]
) -> None:
    async def main() -> None:
        house = House(most, slow=slow, fail=sorted(fail))
        tasks: list[asyncio.Task[None]] = []
        asked = 0
        for (deed, *arguments), pause, leaves in script:
            work: Coroutine[Any, Any, None] = getattr(house, deed)(*arguments)
            task = asyncio.create_task(work)
            await turns(pause)
            if leaves and deed == "request" and not task.done() and cast(Any, house.named(arguments[0])).users == 0:
                task.cancel()  # its client is gone while it waits
                await asyncio.wait([task])
                continue
            asked += deed == "request"
            tasks.append(task)
        await asyncio.wait_for(asyncio.gather(*tasks), SAFETY)
        assert len(house.answered) == asked
        assert house.highest <= max(bound or len(NAMES) * 2 for bound in house.bounds)
        staying = [one for one in house.offers.present if one.state != "unloading"]
        assert len(staying) <= (house.bounds[-1] or len(NAMES))
        await house.offers.close()
        assert house.present == 0
        assert not house.offers.present

    asyncio.run(main())


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, SAFETY))


def test_a_swap_waits_for_running_answers_and_both_sides_have_their_turn() -> None:
    async def main() -> None:
        house = House(1)
        await asyncio.gather(*(house.request(name, 40) for name in "abababab"))
        assert house.answered == list("aaaabbbb")  # who waited for a model has it together
        assert [house.named(name).loads for name in "ab"] == [1, 1]
        await house.offers.close()

    run(main())


def test_an_unload_ends_however_many_want_the_model() -> None:
    async def main() -> None:
        house = House(1)
        crowd = [asyncio.create_task(house.request("a", 3)) for _ in range(2)]
        await turns(8)
        unloading = asyncio.create_task(house.unload("a"))
        while not unloading.done():
            await turns(1)
            crowd.append(asyncio.create_task(house.request("a", 3)))
            assert len(crowd) < 200, "it is never done"
        await asyncio.gather(*crowd)
        assert set(house.answered) == {"a"}
        await house.offers.close()

    run(main())


def test_who_asks_for_a_model_that_has_gone_is_told() -> None:
    async def main() -> None:
        house = House(1)
        stale = house.named("a")
        await house.request("a", 1)
        await house.change("a", 1)
        for _ in range(20):  # while it is unloaded, and afterwards
            with ExitStack() as held, pytest.raises(OverloadedError, match="have changed"):
                await house.offers.get(stale, held)
            await turns(1)
        assert stale.state == "unloaded"
        await house.offers.close()

    run(main())


def test_the_queue_has_a_bound() -> None:
    async def main() -> None:
        house = House(1, queue=2)
        await asyncio.gather(*(house.request("a", 1) for _ in range(4)))
        assert sorted(house.answered) == ["a", "a", "queue_full", "queue_full"]
        house.offers = Offers(house.offers.offers, 1, 0)
        with ExitStack() as held, pytest.raises(OverloadedError) as refused:
            await house.offers.get(house.named("b"), held)
        assert refused.value.status == 503
        assert (refused.value.retry_after or 0) >= 1
        await house.offers.close()

    run(main())


def test_what_cannot_be_loaded_is_told_and_tried_again() -> None:
    async def main() -> None:
        house = House(1, fail="a")
        with ExitStack() as held, pytest.raises(EngineDeadError, match="'a' cannot be loaded: no such file"):
            await house.offers.get(house.named("a"), held)
        house.fail.clear()
        await house.request("a", 1)
        assert house.answered == ["a"]
        await house.offers.close()

    run(main())


def test_who_waits_has_patience_and_a_drain_ends_it() -> None:
    async def main() -> None:
        house = House(1, slow=10**9)
        house.offers = Offers(house.offers.offers, 1, 5, patience=0.01)
        await house.request("a", 1)
        house.offers = Offers([house.offer("c"), *house.offers.offers[:2]], 2, 5)
        waiting = asyncio.create_task(house.request("c", 1))
        await turns(3)
        house.offers.drain()
        await waiting
        await house.request("b", 1)
        assert house.answered == ["overloaded", "draining", "draining"]
        await house.offers.close()

    run(main())


def test_what_nobody_uses_is_unloaded() -> None:
    async def main() -> None:
        house = House(None)
        for offer in house.offers.offers:
            offer.idle = 0.001 if offer.names != ["c"] else 0.0
        await asyncio.gather(*(house.request(name, 1) for name in NAMES))
        with ExitStack() as held:
            await house.offers.get(house.named("b"), held)
            tidying = asyncio.create_task(house.offers.keep_tidy())
            while house.named("a").state != "unloaded":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert [offer.state for offer in house.offers.offers] == ["unloaded", "loaded", "loaded"]
        tidying.cancel()
        await house.offers.close()

    run(main())
