"""What is known of a batch, whoever's API it was made by. The views of both APIs are made from it.

Its life: ``validating`` (a file's lines are read) → ``in_progress`` → ``finalizing`` (the results are put together) →
``completed``. From any of these: ``cancelling`` → ``cancelled``, or ``expired`` when the window has passed. A file that
is no list of requests ends it as ``failed``, before any line is run. Times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct, field

__all__ = ["ENDED", "OPEN", "WINDOW", "Outcome", "Problem", "Record", "Usage", "counts_of"]

WINDOW: Final = 86400  # seconds from the making of a batch to its expiry

OPEN: Final = frozenset({"validating", "in_progress", "finalizing"})  # the statuses in which it can be cancelled
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})

Outcome: TypeAlias = Literal["succeeded", "errored", "cancelled", "expired"]  # of a line


class Problem(Struct, frozen=True):
    """Why a file is no list of requests. ``line`` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Usage(Struct, frozen=True):
    """Tokens of all lines together."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the store keeps of a batch beside its id, owner, age and status.

    ``headers`` are those of the request that made it which its lines are to have too. ``counts`` says how many lines
    came out how, and ``failures`` how many for which cause, once all have. ``in_progress_at`` is when its lines began
    to run.
    """

    endpoint: str
    expires_at: int
    input_file_id: str | None = None
    keep_output: int | None = None  # seconds, of its output files
    metadata: dict[str, str] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    model: str | None = None  # of all its lines, where it is one
    total: int = 0
    counts: dict[str, int] | None = None
    failures: dict[str, int] = field(default_factory=dict)
    usage: Usage | None = None
    problems: list[Problem] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None

    @property
    def ended_at(self) -> int | None:
        """When it ended, however."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at

    def kept(self) -> dict[str, Any]:
        """As JSON values."""
        kept: dict[str, Any] = msgspec.to_builtins(self)
        return kept

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Record:
        """The record that was kept so."""
        return msgspec.convert(kept, cls)


def counts_of(record: Record, running: Mapping[str | None, int]) -> dict[Outcome, int]:
    """How many lines have come out how: as the record says in the end, and as ``running`` says until then."""
    found = running if record.counts is None else record.counts
    outcomes: tuple[Outcome, ...] = ("succeeded", "errored", "cancelled", "expired")
    return {outcome: found.get(outcome, 0) for outcome in outcomes}
