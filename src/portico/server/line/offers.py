"""Models on offer: those that are loaded, and those that are loaded when somebody asks for them.

- Who asks for a model holds it from then to the end of the answer. Nothing that is held is unloaded.
- At most ``most`` are loaded. For another one the one that nobody holds, or else that was used least lately, has to go:
  nobody new gets it, the answers on their way come to their end, then it is unloaded. Nothing is ever cut off.
- Who asks for a model that is not loaded waits, at most ``queue`` of them and at most ``patience`` seconds; the rest is
  refused with a word on when to try again. The one who has waited longest decides what is loaded next.
- When a model is loaded, all who wait for it have it at once, before it can have to go for another. So with two models
  that are asked for all the time each of them gets its turn, and nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from portico.errors import EngineDeadError, NotSupportedError, OverloadedError, PorticoError
from portico.generation import Model
from portico.server.line.model import ServedModel

__all__ = ["Offer", "Offers", "State"]

log = logging.getLogger("portico")

State: TypeAlias = Literal["unloaded", "loading", "loaded", "unloading"]

LOOK: Final = 1.0  # seconds between two looks for models that nobody uses


@dataclass(eq=False)
class Offer:
    """One model. ``load`` loads it, under the ``names`` that are known by then; where it ``stays`` it is never
    unloaded, and without ``load`` it is loaded already.

    ``capabilities`` are a guess before the first time, None where there is none. It is unloaded when it has not been
    used for ``idle`` seconds, unless that is 0; ``at_start`` it is loaded before anybody asks. Adapters may be
    loaded out of ``lora_dir``; ``load`` loads those of ``loras`` (paths by name). ``described`` is equal for two offers
    of the same.
    """

    names: Sequence[str]
    load: Callable[[], Awaitable[ServedModel]] | None
    patterns: Sequence[str] = ()
    adapters: Sequence[str] = ()
    capabilities: frozenset[str] | None = None
    context_length: int | None = None
    created: int = 0
    idle: float = 0.0
    at_start: bool = True
    loras: dict[str, str] = field(default_factory=dict)
    lora_dir: Path | None = None
    stays: bool = False
    described: object = None
    served: ServedModel | None = None
    state: State = "unloaded"
    took: float = 0.0  # seconds, to load it the last time
    loads: int = 0
    moving: asyncio.Task[None] | None = None

    @staticmethod
    def standing(served: ServedModel) -> Offer:
        """Of a model that is loaded and stays so."""
        offer = Offer(served.names, None, stays=True)
        offer.has(served)
        return offer

    def has(self, served: ServedModel) -> None:
        """It is loaded now."""
        self.served, self.state = served, "loaded"
        self.names, self.patterns = served.names, served.patterns
        self.adapters = [adapter.name for adapter in served.adapters]
        self.capabilities, self.context_length = served.model.capabilities, served.model.context_length
        self.created = served.model.created

    def gain(self, adapter: Model, path: str) -> None:
        """It has this adapter now, in place of one of that name, and when it is loaded again."""
        self.lose(adapter.name)
        assert self.served is not None
        self.loras[adapter.name] = path
        self.has(replace(self.served, adapters=[*self.served.adapters, adapter]))

    def lose(self, name: str) -> None:
        """It has no adapter of that name any more."""
        assert self.served is not None
        self.loras.pop(name, None)
        left = [adapter for adapter in self.served.adapters if adapter.name != name]
        self.has(replace(self.served, adapters=left))

    def held(self, held: ExitStack) -> ServedModel:
        """The model; it is not unloaded before ``held`` is closed."""
        assert self.served is not None
        held.enter_context(self.served.line.using())
        return self.served

    async def bring(self) -> None:
        """Load it. Raises what loading raises."""
        assert self.load is not None
        self.state = "loading"
        began = time.monotonic()
        try:
            self.has(await self.load())
        except BaseException:
            self.state = "unloaded"
            raise
        self.took = time.monotonic() - began
        self.loads += 1

    async def end(self) -> None:
        """Close it, whoever uses it."""
        served, self.served = self.served, None
        try:
            if served is not None:
                await served.close()
        finally:
            self.state = "unloaded"


@dataclass(eq=False)
class _Waiting:
    offer: Offer
    held: ExitStack
    answer: asyncio.Future[ServedModel] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Offers:
    """All of them, at most ``most`` loaded at a time (None: as many as there are)."""

    def __init__(
        self, offers: Sequence[Offer], most: int | None = None, queue: int = 256, patience: float | None = None
    ) -> None:
        self.offers = list(offers)
        self._leaving: list[Offer] = []  # no longer on offer, and not yet unloaded
        self._most = most
        self._queue = queue
        self._patience = patience
        self._waiting: list[_Waiting] = []
        self._early: list[Offer] = []  # to be loaded before anybody asks, where there is room
        self._draining = False

    @property
    def present(self) -> list[Offer]:
        """Those that take memory, in whatever state."""
        return [offer for offer in (*self.offers, *self._leaving) if offer.state != "unloaded"]

    def waiting(self, offer: Offer) -> int:
        """How many wait for it to be loaded."""
        return sum(one.offer is offer for one in self._waiting)

    async def start(self) -> None:
        """Load those that are to be at start, one after the other, as far as there is room. Raises what loading
        raises."""
        for offer in [offer for offer in self.offers if offer.at_start][: self._most]:
            await offer.bring()

    async def get(self, offer: Offer, held: ExitStack) -> ServedModel:
        """The offer's model, once it is loaded; it stays so until ``held`` is closed.

        Raises ``OverloadedError`` where too many wait, or it takes too long, and ``EngineDeadError`` where it cannot be
        loaded.
        """
        if offer.state == "loaded":
            return offer.held(held)
        again = max(1, math.ceil(offer.took))
        if self._draining:
            raise _draining()
        if offer not in self.offers:  # nor will it be loaded any more
            raise _changed()
        if len(self._waiting) >= self._queue:
            raise OverloadedError(
                "Too many requests wait for a model to be loaded; try again.", code="queue_full", retry_after=again
            )
        waiting = _Waiting(offer, held)
        self._waiting.append(waiting)
        self._go_on()
        try:
            async with asyncio.timeout(self._patience):
                return await waiting.answer
        except TimeoutError:
            raise OverloadedError(
                f"The model '{offer.names[0]}' could not be loaded within {self._patience:g} seconds; try again.",
                retry_after=again,
            ) from None
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def unload(self, offer: Offer) -> None:
        """Returns when it has been unloaded, which the answers on their way do not notice; for who waits for it, it is
        loaded again. Raises ``NotSupportedError`` where it stays."""
        if offer.stays:
            raise NotSupportedError("With --workers every model stays loaded.", param="model")
        if offer.state == "loading" and offer.moving is not None:
            await asyncio.wait([offer.moving])
        self._unload(offer)
        if offer.state == "unloading" and offer.moving is not None:
            await asyncio.wait([offer.moving])

    def change(self, offers: Sequence[Offer], most: int | None, queue: int) -> None:
        """These are on offer from now on, within these bounds. One that is described as one that was there is that one;
        of the others the answers end first."""
        was, self._most, self._queue = self.offers, most, queue
        self.offers = [next((old for old in was if old.described == new.described), new) for new in offers]
        gone = [old for old in was if old not in self.offers]
        for waiting in self._waiting:
            if waiting.offer in gone:
                self._refuse(waiting, _changed())
        for old in gone:
            if old.state != "unloaded":
                self._leaving.append(old)
            if old.state == "loaded":
                self._unload(old)
        self._early = [new for new in self.offers if new not in was and new.at_start]
        self._go_on()

    async def keep_tidy(self) -> None:
        """Unload what nobody has used for long, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            for offer in self.offers:
                if offer.idle and offer.served is not None and offer.served.line.unused_for(now) >= offer.idle:
                    log.info("model %s has not been used for %g s", offer.names[0], offer.idle)
                    self._unload(offer)

    def drain(self) -> None:
        """Load nothing any more; who waits is told to go."""
        self._draining = True
        for waiting in self._waiting:
            self._refuse(waiting, _draining())

    async def close(self) -> None:
        """End all of them, whoever uses them."""
        self.drain()
        for offer in (*self.offers, *self._leaving):
            if offer.moving is not None:
                if offer.state == "loading" or offer.served is not None:  # else it is being closed already
                    offer.moving.cancel()
                await asyncio.gather(offer.moving, return_exceptions=True)
            await offer.end()

    # -- what moves ---------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Begin what those who wait need and there is room for; the longest waiting comes first."""
        if self._draining:
            return
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        if self._most is not None:  # it may be less than it was
            staying = [offer for offer in self.present if offer.state != "unloading"]
            for _ in staying[self._most :]:
                if (victim := self._to_go()) is not None:
                    self._unload(victim)
        present = self.present
        room = len(present) + 1 if self._most is None else self._most - len(present)
        leaving = sum(offer.state == "unloading" for offer in present)
        for offer in dict.fromkeys(waiting.offer for waiting in self._waiting):
            if offer.state != "unloaded" or self._has_predecessor(offer):
                continue
            if room > 0 or self._most is None:
                room -= 1
                offer.state = "loading"
                self._begin(offer, self._loading(offer))
            elif leaving > 0:
                leaving -= 1
            elif (victim := self._to_go()) is not None:
                self._unload(victim)
        for offer in self._early.copy():
            if (room > 0 or self._most is None) and not self._has_predecessor(offer):
                self._early.remove(offer)
                if offer.state == "unloaded":
                    room -= 1
                    offer.state = "loading"
                    self._begin(offer, self._loading(offer))

    def _has_predecessor(self, offer: Offer) -> bool:
        """Whether one that had its name, and is described otherwise, is still there."""
        return any(set(old.names) & set(offer.names) for old in self._leaving)

    def _to_go(self) -> Offer | None:
        """The loaded one that is missed least."""
        loaded = [(offer.served.line, offer) for offer in self.present if offer.served and offer.state == "loaded"]
        able = [(line.in_use, line.used, offer) for line, offer in loaded if not offer.stays]
        return min(able, key=lambda one: one[:2])[2] if able else None

    @staticmethod
    def _begin(offer: Offer, work: Coroutine[Any, Any, None]) -> None:
        offer.moving = asyncio.create_task(work)

    async def _loading(self, offer: Offer) -> None:
        try:
            await offer.bring()
        except Exception as error:
            told = error.message if isinstance(error, PorticoError) else "the error has been logged."
            log.error("model %s cannot be loaded", offer.names[0], exc_info=None if told == str(error) else error)
            words = f"The model '{offer.names[0]}' cannot be loaded: {told}"
            for waiting in self._waiting:
                if waiting.offer is offer:
                    self._refuse(waiting, EngineDeadError(words, code="model_not_loaded"))
        else:
            log.info("model %s is loaded, after %.1f s", offer.names[0], offer.took)
            for waiting in self._waiting:
                if waiting.offer is offer and not waiting.answer.done():
                    waiting.answer.set_result(offer.held(waiting.held))
        if offer in self._leaving and offer.state == "loaded":
            self._unload(offer)
        elif offer in self._leaving:
            self._leaving.remove(offer)
        self._go_on()

    def _unload(self, offer: Offer) -> None:
        if offer.state == "loaded":
            offer.state = "unloading"
            self._begin(offer, self._unloading(offer))

    async def _unloading(self, offer: Offer) -> None:
        assert offer.served is not None
        line = offer.served.line
        while line.in_use:
            await line.unused()
        try:
            await offer.end()
            log.info("model %s is unloaded", offer.names[0])
        except Exception:
            log.exception("model %s did not end as it should", offer.names[0])
        if offer in self._leaving:
            self._leaving.remove(offer)
        self._go_on()

    @staticmethod
    def _refuse(waiting: _Waiting, error: PorticoError) -> None:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)


def _changed() -> OverloadedError:
    return OverloadedError("The models have changed; try again.", retry_after=1)


def _draining() -> OverloadedError:
    return OverloadedError("The server is shutting down; try again elsewhere.", code="draining", retry_after=1)
