"""What passes between the parts of one choice, for those who want to see it: a trace, a measurement.

Nothing is watched unless asked for. ``watched`` puts a thin layer around the parts of one choice; every other choice
runs without it, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from portico.events import EngineOutput, Event
from portico.generation.choice import Choice, Decoder, Delta, Parser

__all__ = ["Watch", "watched"]

Clock = Callable[[], float]


class Watch(Protocol):
    """Sees one choice at work. Seconds are what the part itself took."""

    def took(self, output: EngineOutput) -> None:
        """The engine gave this."""
        ...

    def decoded(self, text: str, seconds: float) -> None:
        """Its tokens, or the end of the tokens, gave this text."""
        ...

    def parsed(self, seconds: float) -> None:
        """That text, or the end of the text, was read."""
        ...

    def gave(self, delta: Delta | None) -> None:
        """This is what the output came to."""
        ...

    def lost(self, why: str) -> None:
        """The engine is gone, for this reason; outputs that follow come from its successor."""
        ...


def watched(choice: Choice, watches: Sequence[Watch], clock: Clock) -> Callable[[EngineOutput], Delta | None]:
    """What to call in place of ``choice.feed`` so that ``watches`` see it at work."""
    choice.wrap(
        lambda decoder: _WatchedDecoder(decoder, watches, clock), lambda parser: _WatchedParser(parser, watches, clock)
    )

    def feed(output: EngineOutput) -> Delta | None:
        for watch in watches:
            watch.took(output)
        delta = choice.feed(output)
        for watch in watches:
            watch.gave(delta)
        return delta

    return feed


class _WatchedDecoder:
    def __init__(self, decoder: Decoder, watches: Sequence[Watch], clock: Clock) -> None:
        self._decoder, self._watches, self._clock = decoder, watches, clock

    @property
    def held(self) -> bytes:
        return self._decoder.held

    def feed(self, ids: Sequence[int]) -> str:
        began = self._clock()
        return self._told(self._decoder.feed(ids), began)

    def close(self) -> str:
        began = self._clock()
        return self._told(self._decoder.close(), began)

    def _told(self, text: str, began: float) -> str:
        seconds = self._clock() - began
        for watch in self._watches:
            watch.decoded(text, seconds)
        return text


class _WatchedParser:
    def __init__(self, parser: Parser, watches: Sequence[Watch], clock: Clock) -> None:
        self._parser, self._watches, self._clock = parser, watches, clock

    @property
    def held(self) -> tuple[str, str] | None:
        return self._parser.held

    @property
    def in_thought(self) -> bool:
        return self._parser.in_thought

    @property
    def in_call(self) -> bool:
        return self._parser.in_call

    @property
    def outcomes(self) -> Mapping[str, int]:
        return self._parser.outcomes

    @property
    def recoveries(self) -> Sequence[tuple[str, str]]:
        return self._parser.recoveries

    @property
    def special_tokens(self) -> frozenset[str]:
        return self._parser.special_tokens

    def feed(self, text: str) -> list[Event]:
        began = self._clock()
        return self._told(self._parser.feed(text), began)

    def close(self, finish_reason: str = "stop") -> list[Event]:
        began = self._clock()
        return self._told(self._parser.close(finish_reason), began)

    def _told(self, events: list[Event], began: float) -> list[Event]:
        seconds = self._clock() - began
        for watch in self._watches:
            watch.parsed(seconds)
        return events
