"""A generation whose client decodes: token ids out as they come, text read only where a stop string has to be found."""

from __future__ import annotations

from portico.events import EngineOutput
from portico.generation.choice import Choice, Delta
from portico.generation.generation import Generation

__all__ = ["TokenChoice", "TokenGeneration"]


class TokenChoice(Choice):
    """A choice that holds no token back."""

    def feed(self, output: EngineOutput) -> Delta:
        """Take one engine output; there is always something to tell."""
        delta = super().feed(output)
        return self._delta([]) if delta is None else delta


class TokenGeneration(Generation):
    """A request of token ids for token ids."""

    def __post_init__(self) -> None:
        self.choices = [TokenChoice(index, self.spec, self.tokenizer) for index in range(self.spec.n)]
