"""Whose API a batch was made by, as far as it matters to who runs it: how its lines are read, and told of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from portico.protocols.batches import anthropic, lines, openai
from portico.protocols.batches.lines import Request
from portico.protocols.batches.record import Outcome

__all__ = ["KINDS", "Kind"]


class Kind(NamedTuple):
    """``prefix`` begins the ids of its requests. ``answered`` takes a line's ``custom_id``, its request's id, status
    and body of the answer; it gives how the line came out, and the line that tells it. ``unanswered`` is for one that
    was never run."""

    prefix: str
    read_line: Callable[[bytes], Request]
    answered: Callable[[str, str, int, bytes], tuple[Outcome, bytes]]
    unanswered: Callable[[str, str], bytes]


KINDS: Final = {
    "openai": Kind("batch_req", lines.read_line, openai.answered, openai.unanswered),
    "anthropic": Kind("req", anthropic.read_line, anthropic.answered, anthropic.unanswered),
}
