"""What the line tells of its work, for whoever counts it. It knows nothing of how that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from portico.generation import Generation, Watch

__all__ = ["Meter", "Timer"]


class Timer(Protocol):
    """Takes durations, in seconds."""

    def observe(self, amount: float, /) -> None: ...


class Meter(Protocol):
    """Counts the work of lines. Whatever is called once per token must be cheap."""

    @property
    def measure(self) -> Watch:
        """Watches the choices of one flight in several."""
        ...

    @property
    def prepare(self) -> Timer:
        """From a request's head to its admission."""
        ...

    @property
    def first_token(self) -> Timer:
        """From a choice's admission to its first output."""
        ...

    @property
    def between_tokens(self) -> Timer:
        """Between one output of a choice and the next."""
        ...

    @property
    def step(self) -> Timer:
        """The line's work on one engine step."""
        ...

    def admitted(self) -> None:
        """A flight goes to the engine."""
        ...

    def finished(self, reason: str) -> None:
        """A choice has finished for that reason."""
        ...

    def over(self, generations: Sequence[Generation]) -> None:
        """A flight is over, however it ended."""
        ...

    def resumed(self, tokens: int, seconds: float) -> None:
        """An answer goes on, with so many tokens, after so long a pause."""
        ...

    def streaming(self) -> AbstractContextManager[None]:
        """Around the writing of one stream."""
        ...
