"""What is served: models by name, loaded or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from portico.errors import (
    EngineDeadError,
    ModelNotFoundError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    PermissionDeniedError,
    PorticoError,
)
from portico.generation import Card, Model
from portico.keys import KEY
from portico.server.line.endings import Endings
from portico.server.line.line import Line
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer, Offers
from portico.server.line.runs import Runs

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["FileBounds", "Served", "Wanted"]

LONGEST_NAME = 256  # characters of a name that only a pattern knows


class FileBounds(NamedTuple):
    """How many bytes one uploaded file may have, and all of one API key together."""

    largest: int = 512 << 20
    of_one_key: int = 4 << 30


@dataclass(frozen=True)
class Wanted:
    """The model that a request is for, which may have to be loaded first. ``capability`` is what it must be able to,
    and ``lack`` the words for a model that is not."""

    offers: Offers
    offer: Offer
    name: str | None
    capability: str = ""
    lack: str = ""

    @property
    def loaded(self) -> bool:
        """Whether it can be had without waiting."""
        return self.offer.state == "loaded"

    def now(self, held: ExitStack) -> ServedModel:
        """The model, which is loaded; it stays so until ``held`` is closed. Raises ``NotSupportedError``."""
        return self._able(self.offer.held(held))

    async def get(self, held: ExitStack) -> ServedModel:
        """The model, once it is loaded; it stays so until ``held`` is closed. Raises ``NotSupportedError``, and as
        ``Offers.get`` does."""
        return self._able(await self.offers.get(self.offer, held))

    def _able(self, served: ServedModel) -> ServedModel:
        served = served.called(self.name or served.names[0])
        if self.capability and self.capability not in served.model.capabilities:
            raise _lacks(served.model.name, self.lack)
        return served


class Served:
    """All models on offer. A request without a model name gets the first that can do what it asks for."""

    def __init__(
        self,
        offers: Offers,
        request_timeout: float | None = None,
        signing_key: str | None = None,
        resume_grace: float = 0.0,
        store: Store | None = None,
        mcp_allow: Sequence[str] = (),
        file_bounds: FileBounds | None = None,
    ) -> None:
        self.offers = offers
        self.request_timeout = request_timeout
        self.signing_key = signing_key  # of thinking; None: one per process
        self.runs = Runs(resume_grace)
        self.endings = Endings()
        self.mcp_allow = mcp_allow  # hosts of MCP servers that requests may name
        self.store = store  # of responses, conversations and files; None: nothing is kept
        self.file_bounds = file_bounds or FileBounds()
        self._draining = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether the server is about to end."""
        return self._draining.is_set()

    async def until_draining(self) -> None:
        """Return when it is about to end."""
        await self._draining.wait()

    @property
    def models(self) -> list[ServedModel]:
        """Those that are loaded, in whatever state."""
        return [offer.served for offer in self.offers.present if offer.served is not None]

    @property
    def in_flight(self) -> int:
        """Client requests that engines work on."""
        return sum(one.line.in_flight for one in self.models)

    @property
    def healthy(self) -> bool:
        """Whether every model that is loaded can take requests."""
        return not self.draining and all(line.healthy for _, line in self._lines())

    def check_ready(self) -> None:
        """Raise where requests are not taken now: ``OverloadedError`` while the server drains, ``EngineDeadError``
        where a loaded model's engine is gone."""
        if self.draining:
            raise OverloadedError("The server is draining: it will end.", code="draining", retry_after=1)
        for name, line in self._lines():
            if not line.healthy:
                raise EngineDeadError(f"The engine of '{name}' is gone or loading.", retry_after=1)

    def drain(self) -> None:
        """Take no new requests."""
        self._draining.set()
        self.offers.drain()
        for one in self.models:
            one.line.drain()

    def fail_all(self, error: PorticoError) -> None:
        """End every answer with ``error``."""
        for one in self.models:
            one.line.fail_all(error)

    def store_for(self, refusal: str) -> Store:
        """The store. Raises ``NotFoundError`` with this text where nothing is kept."""
        if self.store is None:
            raise NotFoundError(refusal)
        return self.store

    # -- by name ------------------------------------------------------------------------------------------------------

    @property
    def cards(self) -> Iterator[Card]:
        """A card for every name that the API key may use: every model under each of its names, then its adapters."""
        for offer in self.offers.offers:
            for name in (*offer.names, *offer.adapters):
                if KEY.get().may_use(_meant(offer, name)):
                    yield _card(offer, name)

    @property
    def loaded(self) -> Iterator[tuple[str, Model]]:
        """As ``cards``, but the models themselves, of those that are loaded."""
        for card in self.cards:
            offer = self.model(card.name).offer
            if offer.served is not None:
                yield card.name, offer.served.called(card.name).model

    def has(self, name: str) -> bool:
        """Whether a model has this name."""
        return self._named(name) is not None

    def card(self, name: str) -> Card:
        """The card of that name. Raises as ``model`` does."""
        return _card(self.model(name).offer, name)

    def model(self, name: str) -> Wanted:
        """The model of that name. Raises ``ModelNotFoundError``, and ``PermissionDeniedError`` where the API key may
        not use it."""
        found = self._named(name) or self._by_pattern(name)
        if found is None:
            known = ", ".join([card.name for card in self.cards][:8])
            raise ModelNotFoundError(f"There is no such model here. Served: {known}.", param="model")
        _check_allowed(_meant(found, name))
        return Wanted(self.offers, found, name)

    def any(self, name: str | None) -> Wanted:
        """The model of that name, the first one without a name."""
        return self.model(name) if name else Wanted(self.offers, self._first(self.offers.offers), None)

    def generating(self, name: str | None) -> Wanted:
        """The model of that name, if it generates text. Raises ``NotSupportedError`` if it does not."""
        return self._able("generate", name, "does not generate text")

    def embedding(self, name: str | None) -> Wanted:
        """The model of that name, if it makes embeddings. Raises ``NotSupportedError`` if it does not."""
        return self._able("embed", name, "does not make embeddings")

    def _able(self, capability: str, name: str | None, lack: str) -> Wanted:
        able = [offer for offer in self.offers.offers if _may(offer, capability)]
        if not name:
            offer = self._first(able or self.offers.offers)
        else:
            offer = self.model(name).offer
            if able and offer not in able and self._named(name) is None:
                offer = self._first(able)  # a pattern is about names, whatever is asked of the model
        if not _may(offer, capability):
            raise _lacks(name or offer.names[0], lack)
        return Wanted(self.offers, offer, name or None, capability, lack)

    def _named(self, name: str) -> Offer | None:
        for offer in self.offers.offers:
            if name in offer.names or name in offer.adapters:
                return offer
        return None

    def _by_pattern(self, name: str) -> Offer | None:
        for offer in self.offers.offers:
            if len(name) <= LONGEST_NAME and any(fnmatchcase(name, pattern) for pattern in offer.patterns):
                return offer
        return None

    @staticmethod
    def _first(offers: Sequence[Offer]) -> Offer:
        """The first that the API key may use. Raises ``PermissionDeniedError`` where that is none, and
        ``ModelNotFoundError`` where there is none at all."""
        if not offers:
            raise ModelNotFoundError("This server has no models now.", param="model")
        for offer in offers:
            if KEY.get().may_use(offer.names):
                return offer
        raise _forbidden()

    def _lines(self) -> Iterator[tuple[str, Line]]:
        for offer in self.offers.present:
            if offer.served is not None and offer.state == "loaded":
                yield offer.names[0], offer.served.line


def _may(offer: Offer, capability: str) -> bool:
    """Whether it has the capability, as far as is known."""
    return offer.capabilities is None or capability in offer.capabilities


def _meant(offer: Offer, name: str) -> Sequence[str]:
    """The names of what is meant: an adapter has but one."""
    return [name] if name in offer.adapters else offer.names


def _check_allowed(names: Sequence[str]) -> None:
    if not KEY.get().may_use(names):
        raise _forbidden()


def _forbidden() -> PermissionDeniedError:
    may = ", ".join(KEY.get().models[:8])
    return PermissionDeniedError(f"This API key may not use this model; it may use: {may}.", param="model")


def _lacks(name: str, lack: str) -> NotSupportedError:
    return NotSupportedError(f"The model '{name}' {lack}.", param="model")


def _card(offer: Offer, name: str) -> Card:
    adapter = name in offer.adapters
    return Card(
        name=name,
        root=name if adapter else offer.names[0],
        parent=offer.names[0] if adapter else None,
        created=offer.created,
        capabilities=offer.capabilities or frozenset(),
        context_length=offer.context_length,
        state=offer.state,
    )
