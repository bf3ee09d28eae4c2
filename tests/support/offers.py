"""Models that cost nothing to load: offers over engines that take turns of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

from portico.errors import EngineError, PorticoError
from portico.server.line.line import Line
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer, Offers
from portico.server.observe.metrics import Metrics
from support.generation import tiny_model

METRICS = Metrics()
NAMES = "abc"


class House:
    """Offers over engines that take ``slow`` turns of the loop to load, some of which ``fail``."""

    def __init__(self, most: int | None, queue: int = 1000, slow: int = 3, fail: Sequence[str] = ()) -> None:
        self.fail = set(fail)
        self.slow = slow
        self.present = 0
        self.highest = 0
        self.offers = Offers([self.offer(name) for name in NAMES], most, queue)
        self.bounds, self.queue = [most], queue
        self.answered: list[str] = []

    def offer(self, name: str, described: int = 0) -> Offer:
        async def load() -> ServedModel:
            self.present += 1
            self.highest = max(self.highest, self.present)
            try:
                await turns(self.slow)
                if name in self.fail:
                    raise EngineError("no such file")
            except BaseException:
                self.present -= 1
                raise
            line = Line(cast(Any, SimpleNamespace(close=close)), METRICS)
            return ServedModel(tiny_model(name=name), [name], line)

        async def close() -> None:
            assert offer.users == 0, "it is unloaded while somebody uses it"  # type: ignore[attr-defined]
            await turns(self.slow)
            self.present -= 1

        offer = Offer([name], load, described=(name, described))
        offer.users = 0  # type: ignore[attr-defined]
        return offer

    def named(self, name: str) -> Offer:
        return next(offer for offer in self.offers.offers if offer.names == [name])

    async def request(self, name: str, length: int) -> None:
        """Use a model for so many turns."""
        with ExitStack() as held:
            offer: Any = self.named(name)
            try:
                served = await self.offers.get(offer, held)
            except PorticoError as error:
                self.answered.append(error.code or "")
                return
            assert served.model.name == name
            offer.users += 1
            await turns(length)
            assert offer.state in ("loaded", "unloading")
            offer.users -= 1
            self.answered.append(name)

    async def unload(self, name: str) -> None:
        await self.offers.unload(self.named(name))

    async def change(self, name: str, described: int) -> None:
        """The settings of this one are others now."""
        same = [self.offer(*cast(Any, one.described)) for one in self.offers.offers if one.names != [name]]
        self.offers.change([*same, self.offer(name, described)], self.bounds[-1], self.queue)

    async def bound(self, most: int) -> None:
        """So many may be loaded now."""
        self.bounds.append(most)
        self.offers.change(self.offers.offers, most, self.queue)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
