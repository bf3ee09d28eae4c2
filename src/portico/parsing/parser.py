"""``OutputParser`` and ``parse``: what the rest of Portico, and anyone who wants only this part, uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from portico.events import Event, Finish, Message
from portico.parsing.machine import Machine, declared, fold, random_id
from portico.parsing.machine import finish_reason as told

__all__ = ["OutputParser", "parse"]


class OutputParser:
    """Reads one answer of a model, piece by piece."""

    def __init__(
        self,
        tool_parser: str | None = None,
        reasoning_parser: str | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = "auto",
        parallel: bool = True,
        prompt_tail: str = "",
        new_id: Callable[[int], str] | None = None,
    ) -> None:
        self._named = isinstance(tool_choice, Mapping)
        self._machine = Machine({}, thinking=False, new_id=new_id or random_id, first_only=not parallel)
        self.special_tokens: frozenset[str] = frozenset()

    @property
    def outcomes(self) -> Mapping[str, int]:
        return self._machine.outcomes

    def feed(self, text: str) -> list[Event]:
        if not text:
            return []
        self._machine.write(text)
        return self._machine.events()

    def close(self, finish_reason: str = "stop") -> list[Event]:
        machine = self._machine
        machine.finish()
        return [*machine.events(), Finish(told(finish_reason, machine.calls, self._named))]


def parse(text: str, tool_parser: str | None = None, reasoning_parser: str | None = None, **kwargs: Any) -> Message:
    """The whole answer at once: the fold of the events that ``OutputParser`` gives."""
    reason = kwargs.pop("finish_reason", "stop")
    parser = OutputParser(tool_parser, reasoning_parser, **kwargs)
    return fold([*parser.feed(text), *parser.close(reason)])


_ = declared
