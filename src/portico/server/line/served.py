"""What is served: models by name, each with the line it runs on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from portico.constraints import Checker, is_plain
from portico.errors import (
    EngineDeadError,
    ModelNotFoundError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    PermissionDeniedError,
)
from portico.generation import Generation, Model
from portico.keys import KEY
from portico.server.line.endings import Endings
from portico.server.line.line import Line
from portico.server.line.runs import Runs
from portico.threads import Threads

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["FileBounds", "Served", "ServedModel"]

LONGEST_NAME = 256  # characters of a name that only a pattern knows


# What may be costly waits for its own kind only.
_PLAIN = Threads("plain grammars", 1)
_COSTLY = Threads("costly grammars", 2, waiting=16)


@dataclass(frozen=True)
class ServedModel:
    """One model, the names it answers to, its line, and the adapters that its engine has for it.

    ``patterns`` are shell patterns of further names; a model that is called by one is shown by its first of ``names``.
    """

    model: Model
    names: Sequence[str]
    line: Line
    checker: Checker | None = None  # None: the engine needs no trial of its grammars
    adapters: Sequence[Model] = ()
    patterns: Sequence[str] = ()

    def called(self, name: str) -> ServedModel:
        """The same under the name that a client calls it, which answers repeat."""
        if name == self.model.name:
            return self
        return replace(self, model=replace(self.model, name=name, shown=self.model.label))

    async def check(self, generations: Sequence[Generation]) -> None:
        """Try the generations' constraint out, away from the event loop. Raises ``BadRequestError``, and
        ``OverloadedError`` where too many wait."""
        constraint, checker = generations[0].spec.constraint, self.checker
        if constraint is not None and checker is not None and not checker.knows(constraint):
            await (_PLAIN if is_plain(constraint) else _COSTLY).run(partial(checker.check, constraint))

    def knows(self, generations: Sequence[Generation]) -> bool:
        """Whether the generations' constraint needs no trial any more; raises as ``check`` does."""
        constraint = generations[0].spec.constraint
        return constraint is None or self.checker is None or self.checker.knows(constraint)


class FileBounds(NamedTuple):
    """How many bytes one uploaded file may have, and all of one API key together."""

    largest: int = 512 << 20
    of_one_key: int = 4 << 30


class Served:
    """All served models. A request without a model name gets the first that can do what it asks for."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        request_timeout: float | None = None,
        signing_key: str | None = None,
        resume_grace: float = 0.0,
        store: Store | None = None,
        mcp_allow: Sequence[str] = (),
        file_bounds: FileBounds | None = None,
    ) -> None:
        self.models = list(models)
        self.request_timeout = request_timeout
        self.signing_key = signing_key  # of thinking; None: one per process
        self.runs = Runs(resume_grace)
        self.endings = Endings()
        self.mcp_allow = mcp_allow  # hosts of MCP servers that requests may name
        self.store = store  # of responses, conversations and files; None: nothing is kept
        self.file_bounds = file_bounds or FileBounds()
        self._by_name = {name: served.called(name) for served in models for name in served.names}
        for served in models:
            for adapter in served.adapters:
                self._by_name[adapter.name] = replace(served, model=adapter, names=[adapter.name], adapters=())

    @property
    def healthy(self) -> bool:
        """Whether every model can take requests."""
        return all(served.line.healthy for served in self.models)

    @property
    def draining(self) -> bool:
        """Whether the server is about to end."""
        return any(served.line.draining for served in self.models)

    def check_ready(self) -> None:
        """Raise where requests are not taken now: ``OverloadedError`` while the server drains, ``EngineDeadError``
        where a model's engine is gone or loading."""
        if self.draining:
            raise OverloadedError("The server is draining: it will end.", code="draining", retry_after=1)
        for served in self.models:
            if not served.line.healthy:
                raise EngineDeadError(f"The engine of '{served.names[0]}' is gone or loading.", retry_after=1)

    def store_for(self, refusal: str) -> Store:
        """The store. Raises ``NotFoundError`` with this text where nothing is kept."""
        if self.store is None:
            raise NotFoundError(refusal)
        return self.store

    @property
    def cards(self) -> Iterator[tuple[str, Model]]:
        """Every served name that the API key may use, with its model: every model under each of its names, then its
        adapters."""
        key = KEY.get()
        for served in self.models:
            for name in served.names:
                if key.may_use(served.names):
                    yield name, served.model
            for adapter in served.adapters:
                if key.may_use([adapter.name]):
                    yield adapter.name, adapter

    def model(self, name: str) -> ServedModel:
        """The model of that name. Raises ``ModelNotFoundError``, and ``PermissionDeniedError`` where the API key may
        not use it."""
        found = self._by_name.get(name) or self._by_pattern(name)
        if found is None:
            known = ", ".join([name for name, _ in self.cards][:8])
            raise ModelNotFoundError(f"There is no such model here. Served: {known}.", param="model")
        return self._allowed(found)

    def any(self, name: str | None) -> ServedModel:
        """The model of that name, the first one without a name."""
        return self.model(name) if name else self._first(self.models)

    def _by_pattern(self, name: str) -> ServedModel | None:
        for served in self.models:
            if len(name) <= LONGEST_NAME and any(fnmatchcase(name, pattern) for pattern in served.patterns):
                return served.called(name)
        return None

    @staticmethod
    def _allowed(served: ServedModel) -> ServedModel:
        key = KEY.get()
        if not key.may_use(served.names):
            may = ", ".join(key.models[:8])
            raise PermissionDeniedError(f"This API key may not use this model; it may use: {may}.", param="model")
        return served

    def _first(self, models: Sequence[ServedModel]) -> ServedModel:
        """The first that the API key may use. Raises ``PermissionDeniedError`` where that is none."""
        key = KEY.get()
        return next((one for one in models if key.may_use(one.names)), None) or self._allowed(models[0])

    def generating(self, name: str | None) -> ServedModel:
        """The model of that name, if it generates text. Raises ``NotSupportedError`` if it does not."""
        return self._able("generate", name, "does not generate text")

    def embedding(self, name: str | None) -> ServedModel:
        """The model of that name, if it makes embeddings. Raises ``NotSupportedError`` if it does not."""
        return self._able("embed", name, "does not make embeddings")

    def _able(self, capability: str, name: str | None, lack: str) -> ServedModel:
        able = [served for served in self.models if capability in served.model.capabilities]
        if not name:
            served = self._first(able or self.models)
        else:
            served = self.model(name)
            if able and name not in self._by_name and capability not in served.model.capabilities:
                served = self._first(able).called(name)  # a pattern is about names, whatever is asked of the model
        if capability not in served.model.capabilities:
            raise NotSupportedError(f"The model '{served.model.name}' {lack}.", param="model")
        return served
