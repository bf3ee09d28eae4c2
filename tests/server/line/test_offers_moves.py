"""What moves when, one by one: what is asked for, taken back, replaced or broken, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, cast

import pytest

from portico.errors import EngineDeadError, NotSupportedError, OverloadedError
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer
from support.generation import tiny_model
from support.offers import House, turns


@asynccontextmanager
async def house_of(most: int | None, **more: Any) -> AsyncIterator[House]:
    house = House(most, **more)
    yield house
    await asyncio.wait_for(house.offers.close(), 60)
    assert house.present == 0


def states(house: House, names: str = "abc") -> str:
    """``l`` loaded, ``L`` loading, ``u`` unloaded, ``U`` unloading."""
    letters = {"loaded": "l", "loading": "L", "unloaded": "u", "unloading": "U"}
    return "".join(letters[house.named(name).state] for name in names)


async def load(house: House, names: str) -> None:
    for name in names:
        await house.request(name, 0)


@pytest.mark.parametrize("most", [1, 2, 3, None])
async def test_as_many_are_loaded_at_once_as_there_is_room_for(most: int | None) -> None:
    async with house_of(most) as house:
        asking = [asyncio.create_task(house.request(name, 1)) for name in "abc"]
        await turns(1)
        assert states(house) == "LLL"[:most] + "uuu"[most or 3 :]
        await asyncio.gather(*asking)
        assert house.highest == (most or 3)


async def test_no_more_go_than_are_waited_for() -> None:
    async with house_of(2) as house:
        await load(house, "ab")
        with ExitStack() as held:
            for name in "ab":
                await house.offers.get(house.named(name), held)
            asking = [asyncio.create_task(house.request("c", 1)) for _ in range(3)]
            await turns(3)
            assert states(house) == "Ulu", "the one that was used least lately"
            again = asyncio.create_task(house.request("a", 1))
            await turns(3)
            assert states(house) == "Ulu", "it comes back when it has gone"
        await asyncio.gather(*asking, again)
        assert house.answered[2:] == ["c", "c", "c", "a"]


async def test_who_takes_a_model_back_waits_until_it_is_gone() -> None:
    async with house_of(None, slow=4) as house:
        for begun in (0, 1, 3, 20):
            asking = asyncio.create_task(house.request("a", 2))
            await turns(begun)
            await house.unload("a")
            if not begun:
                await asking
                await house.unload("a")
            assert states(house) == "uuu"
            assert house.present == 0
            await asking
        assert house.answered == ["a"] * 4, "who asked had it before"
        await house.unload("a")
        assert states(house) == "uuu"


async def test_what_stays_stays() -> None:
    async with house_of(1) as house:
        await load(house, "a")
        served = house.named("a").served
        assert served is not None
        standing = Offer.standing(served)
        assert (standing.state, standing.served, standing.stays) == ("loaded", served, True)
        assert (standing.names, standing.capabilities) == (served.names, served.model.capabilities)
        assert (standing.context_length, standing.created) == (served.model.context_length, served.model.created)
        with pytest.raises(NotSupportedError) as caught:
            await house.offers.unload(standing)
        assert caught.value.param == "model"
        house.named("a").stays = True
        asking = asyncio.create_task(house.request("b", 1))
        await turns(20)
        assert states(house) == "luu"
        house.named("a").stays = False
        asking.cancel()


async def test_adapters_come_and_go_with_their_model() -> None:
    async with house_of(None) as house:
        await load(house, "a")
        offer = house.named("a")
        dutch, other, frisian = (tiny_model(name=name, created=n) for n, name in enumerate(("x", "x", "y")))
        offer.gain(dutch, "1")
        offer.gain(frisian, "2")
        offer.gain(other, "3")
        assert (list(offer.adapters), offer.loras) == (["y", "x"], {"y": "2", "x": "3"})
        assert offer.served is not None
        assert list(offer.served.adapters) == [frisian, other]
        for _ in range(2):  # one that is not there does no harm
            offer.lose("x")
            assert (list(offer.adapters), offer.loras) == (["y"], {"y": "2"})
            assert list(offer.served.adapters) == [frisian]
        assert (offer.state, offer.names) == ("loaded", ["a"])


@pytest.mark.parametrize(("most", "early"), [(1, "uu"), (2, "lu"), (3, "ll"), (None, "ll")])
async def test_new_ones_are_loaded_at_once_as_far_as_there_is_room(most: int | None, early: str) -> None:
    async with house_of(most) as house:
        await load(house, "b")
        new = [house.offer(name) for name in "def"]
        new[2].at_start = False
        house.offers.change([house.offer("a"), house.offer("b"), *new], most, 10)
        await turns(12)
        assert states(house, "ab") == "ul", "those that were there stay as they were"
        assert states(house, "def") == early + "u"
        assert house.named("b").loads == 1
        await house.unload("b")
        await turns(20)
        if early != "ll":
            assert states(house, "ab" + "def").count("l") == most, "the next one, now that there is room"


async def test_the_next_of_a_name_waits_for_the_one_before() -> None:
    async with house_of(None) as house:
        await load(house, "ab")
        old = house.named("a")
        with ExitStack() as held:
            await house.offers.get(old, held)
            await house.change("a", 1)
            asking = asyncio.create_task(house.request("a", 1))
            await turns(20)
            assert (old.state, states(house)) == ("unloading", "ulu")
            assert old in house.offers.present
            assert house.offers.waiting(house.named("a")) == 1
        await asking
        assert (old.state, states(house)) == ("unloaded", "llu")
        assert house.present == 2


async def test_what_is_no_longer_on_offer_goes_as_soon_as_it_is_loaded() -> None:
    async with house_of(None, slow=5) as house:
        old = house.named("a")
        asking = asyncio.create_task(house.request("a", 1))
        await turns(2)
        house.offers.change([one for one in house.offers.offers if one is not old], None, 10)
        await asking
        assert house.answered == ["overloaded"]
        await turns(30)
        assert old.state == "unloaded"
        assert old not in house.offers._leaving
        assert house.present == 0


async def test_what_moves_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portico")
    async with house_of(None, fail="b") as house:
        await load(house, "a")
        await house.unload("a")
        with ExitStack() as held, pytest.raises(EngineDeadError, match="cannot be loaded: no such file") as known:
            await house.offers.get(house.named("b"), held)
        assert known.value.code == "model_not_loaded"
        broken: Any = house.named("c")

        async def fails() -> ServedModel:
            raise ValueError("a secret")

        broken.load = fails
        with ExitStack() as held, pytest.raises(EngineDeadError, match="loaded: the error has been logged"):
            await house.offers.get(broken, held)
        told = [(record.getMessage().partition(",")[0], record.exc_info is not None) for record in caplog.records]
        assert told == [
            ("model a is loaded", False),
            ("model a is unloaded", False),
            ("model b cannot be loaded", False),
            ("model c cannot be loaded", True),
        ]
        assert "a secret" in caplog.text


async def test_one_that_does_not_end_as_it_should_is_gone_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async with house_of(1) as house:
        await load(house, "a")
        served = house.named("a").served
        assert served is not None
        engine = cast(Any, served.line.engine)
        close = engine.close

        async def fails() -> None:
            await close()
            raise ValueError("stuck")

        engine.close = fails
        await house.request("b", 1)
        assert states(house) == "ulu"
        assert "model a did not end as it should" in caplog.text
        assert "stuck" in caplog.text


async def test_start_loads_what_is_to_be_there() -> None:
    for most, loaded in ((1, "luu"), (None, "lul")):
        async with house_of(most) as house:
            house.named("b").at_start = False
            await house.offers.start()
            assert states(house) == loaded
            assert house.named("a").took >= 0.0


async def test_who_is_refused_is_told_when_to_try_again() -> None:
    async with house_of(1, queue=0) as house:
        offer = house.named("a")
        for took, again in ((0.0, 1), (0.4, 1), (7.2, 8)):
            offer.took = took
            with ExitStack() as held, pytest.raises(OverloadedError) as caught:
                await house.offers.get(offer, held)
            assert (caught.value.code, caught.value.retry_after) == ("queue_full", again)
        house.offers.drain()
        with ExitStack() as held, pytest.raises(OverloadedError) as caught:
            await house.offers.get(offer, held)
        assert (caught.value.code, caught.value.retry_after) == ("draining", 1)
