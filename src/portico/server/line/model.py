"""A model that is loaded: what it is, the names it answers to, and the line it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from portico.constraints import Checker, is_plain
from portico.generation import Generation, Model
from portico.server.line.line import Line
from portico.threads import Threads

__all__ = ["ServedModel"]

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
        """The same under the name that a client calls it, which answers repeat; or the adapter of that name."""
        if name == self.model.name:
            return self
        for adapter in self.adapters:
            if adapter.name == name:
                return replace(self, model=adapter, names=[name], adapters=())
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

    async def close(self) -> None:
        """End its line, its engine and its threads."""
        await self.line.close()
        self.model.prompter.close()
