"""The page of a model family: what it is called, how its reasoning and its calls look, how to recognise it.

A page is a module in ``formats/`` (or a plugin) that makes one or more ``Family`` objects. Everything else, reader,
writer, grammar, commands, tests, works from these values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from portico import grammar as g
from portico.parsing.calls import Calls
from portico.parsing.either import Either
from portico.parsing.messages import Answers
from portico.parsing.thought import Thought
from portico.parsing.wire import BLANK, Words

__all__ = ["Clues", "Family", "Reasoning"]

# What ends a turn in any of the prompt formats; a thought opened before it is history.
_TURN = re.compile(
    r"<\|[^|<>]*\|?>|<[^|<>]*\|>|<｜[^｜<>]*｜>|\[/?INST\]|</?(?:s|user|assistant|system)>|<(?:start|end)_of_turn>"
)


def _all(words: Words) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else words


@dataclass(frozen=True)
class Reasoning:
    """How a family marks its thinking. Alternatives are tuples, the written one first.

    ``leading``: the opener counts only as the first thing of the answer. ``wrappers``: pairs around the answer that
    are dropped. ``shown``: the thought is left in the answer, its opener put back in front.
    """

    open: Words
    close: Words
    leading: bool = False
    wrappers: tuple[tuple[str, str], ...] = ()
    shown: bool = False

    @cached_property
    def openers(self) -> tuple[str, ...]:
        return tuple(word.strip(BLANK) for word in _all(self.open))

    @cached_property
    def closers(self) -> tuple[str, ...]:
        return tuple(word.strip(BLANK) for word in _all(self.close))

    def frame(self, prompt_tail: str) -> g.Frame:
        """What stands in front of an answer behind this prompt."""
        opened, closed = _all(self.open)[0], _all(self.close)[0]
        header = next((g.Exactly(before) for before, _ in self.wrappers if before.startswith("<|")), None)
        if self.shown or not self.closers:
            return g.Frame(header=header)
        gap = g.Exactly(closed[len(closed.rstrip(BLANK)) :])
        stops = tuple(closer.replace("*>", ">") for closer in self.closers)
        if self.is_open(prompt_tail):
            return g.Frame(g.Chain((g.Until(stops), gap)), may_skip=False, header=header)
        if prompt_tail.rstrip(BLANK).endswith(stops):
            return g.Frame(header=header)
        thought = g.Chain((g.Exactly(opened.replace("*>", ">")), g.Until(stops[:1]), gap))
        return g.Frame(thought, may_skip=True, header=header)

    def thinking(self, prompt_tail: str) -> Thought | None:
        """How it begins and ends behind this prompt; None where it is left in the answer or nothing ends it."""
        if self.shown or not self.closers:
            return None
        return Thought(self.openers, self.closers, _all(self.close)[0], self.is_open(prompt_tail))

    def is_open(self, prompt_tail: str) -> bool:
        """Whether the end of a prompt leaves a thought open: behind its opener neither a closer nor a turn's end."""
        for opener in self.openers:
            found = [match.end() for match in _suffixed(opener).finditer(prompt_tail)]
            if not found:
                continue
            behind = prompt_tail[found[-1] :]
            if any(_suffixed(closer).search(behind) for closer in self.closers):
                continue
            if not _TURN.search(behind):
                return True
        return False


def _suffixed(marker: str) -> re.Pattern[str]:
    return re.compile("(?::[0-9a-z]{1,16})?".join(map(re.escape, marker.split("*"))))


@dataclass(frozen=True)
class Clues:
    """What gives a family away in a chat template: all of ``every``, one of ``some`` if given, none of ``never``.

    ``tools`` and ``reasoning`` are the parser names that it then stands for.
    """

    every: tuple[str, ...]
    some: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    tools: str | None = None
    reasoning: str | None = None

    def fit(self, text: str) -> bool:
        return (
            all(word in text for word in self.every)
            and (not self.some or any(word in text for word in self.some))
            and not any(word in text for word in self.never)
        )


@dataclass(frozen=True)
class Family:
    """One page. ``tools`` and ``reasoning`` map the names that users select to descriptions."""

    name: str
    models: str
    tools: Mapping[str, Calls | Either | Reasoning | Answers] = field(default_factory=dict)
    reasoning: Mapping[str, Reasoning | Answers] = field(default_factory=dict)
    ends: tuple[str, ...] = ()  # tokens that end a turn; dropped at the end of an answer
    clues: tuple[Clues, ...] = ()
