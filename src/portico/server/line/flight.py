"""What flies: a client's request with its generations, where their deltas go, and what engines are asked for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from portico.errors import PorticoError
from portico.events import EngineOutput, EngineRequest
from portico.generation import Choice, Delta, Generation, Watch
from portico.keys import KEY
from portico.keys.accounts import Reservation

__all__ = ["Flight", "Route", "Sink", "Watching"]

Watching: TypeAlias = Callable[[Choice, int], Watch]  # a choice and its position in the flight -> who watches it


class Sink(Protocol):
    """Where a flight's deltas go: a stream, or a body that is still being collected."""

    @property
    def stalled(self) -> bool:
        """True when the client reads so slowly that the flight must end."""
        ...

    def feed(self, delta: Delta, position: int) -> None: ...

    def flush(self) -> None:
        """A step is over: write what has come."""
        ...

    def finish(self) -> None:
        """All choices are finished."""
        ...

    def fail(self, error: PorticoError) -> None:
        """The flight ends with an error."""
        ...

    def keep_alive(self) -> None:
        """Nothing may have been written for a while."""
        ...


class Flight:
    """One client request in flight: its generations and its sink."""

    def __init__(
        self,
        generations: Sequence[Generation],
        sink: Sink,
        timeout: float | None = None,
        watches: Sequence[Watching] = (),
        later: bool = False,
    ) -> None:
        self.generations = generations
        self.sink = sink
        self.timeout = timeout
        self.watches = watches
        self.later = later  # nobody waits for it
        self.deadline: float | None = None  # in the loop's time, as all below
        self.over = False
        self.refused = False  # by the engine
        self.admitted = 0.0
        self.first_output = 0.0
        self.finishes: list[str] = []  # of its choices, as they end
        self.routes: list[Route] = []
        self.key = KEY.get()  # whose it is
        self.reservation: Reservation | None = None  # of its tokens, among those of its API key


class Route(Struct, eq=False):
    """Where the outputs of one engine request go, and what is needed to ask another engine for the rest of them.

    The answer's tokens are kept by its ``choice``. ``losses`` counts the engines that died under it.
    """

    flight: Flight
    request: EngineRequest  # the one that an engine has now
    feed: Callable[[EngineOutput], Delta | None]
    position: int
    choice: Choice
    watches: Sequence[Watch]
    last_output: float = 0.0
    losses: int = 0
    lost: float = 0.0  # when the last of them died, in the loop's time
