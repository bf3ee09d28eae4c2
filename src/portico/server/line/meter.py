"""What the line tells of its work, for whoever counts it. It knows nothing of how that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from portico.generation import Generation, Watch
from portico.keys import Key

__all__ = ["Meter", "Timer", "Waits"]


class Timer(Protocol):
    """Takes durations, in seconds."""

    def observe(self, amount: float, /) -> None: ...


class Waits(NamedTuple):
    """What a request waits for: ``prepare`` from its head to its admission, ``first_token`` from a choice's admission
    to its first output, ``between_tokens`` from one output of a choice to the next."""

    prepare: Timer
    first_token: Timer
    between_tokens: Timer


class Meter(Protocol):
    """Counts the work of lines. Whatever is called once per token must be cheap."""

    @property
    def measure(self) -> Watch:
        """Watches the choices of one flight in several."""
        ...

    @property
    def step(self) -> Timer:
        """The line's work on one engine step."""
        ...

    def waits(self, later: bool) -> Waits:
        """Where the waits of a request are counted; ``later``: nobody waits for its answer."""
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

    def used(self, key: Key, model: str, prompt: int, cached: int, completion: int) -> None:
        """A request with that key is over, and so many tokens of the model were used."""
        ...

    def resumed(self, tokens: int, seconds: float) -> None:
        """An answer goes on, with so many tokens, after so long a pause."""
        ...

    def streaming(self) -> AbstractContextManager[None]:
        """Around the writing of one stream."""
        ...
