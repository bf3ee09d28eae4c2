"""What the scheduler moves: sequences, the cells and slots they are kept in, and the plan of a step. Pure data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = [
    "CellPool",
    "Checkpoint",
    "Copy",
    "Piece",
    "Plan",
    "Remove",
    "Restore",
    "Sequence",
    "Slot",
    "Span",
    "position",
    "whole",
]


@dataclass(frozen=True, eq=False)
class Span:
    """A medium's share of a sequence: ``count`` cells from ``start`` on, computed at once and never cut. They take
    ``positions`` of the model's positions, which may be fewer. ``chunk`` is the business of who computes it."""

    start: int
    count: int
    positions: int
    chunk: object = None

    @property
    def end(self) -> int:
        return self.start + self.count


def whole(spans: Iterable[Span], length: int) -> int:
    """``length`` tokens, or those before the span that it would cut."""
    return next((span.start for span in spans if span.start < length < span.end), length)


def position(spans: Iterable[Span], length: int) -> int:
    """The model's position behind so many tokens, which cut no span."""
    return length - sum(span.count - span.positions for span in spans if span.end <= length)


@dataclass(eq=False)
class Sequence:
    """One request's tokens on their way through the cache. ``tokens`` grows by what is sampled.

    ``every_position`` asks for logits at each prompt position: nothing is reused then. Lower ``priority`` is first.
    Only sequences of the same ``adapter`` are computed together; it is the business of who computes.
    Tokens inside ``spans`` are no tokens, but numbers that are equal where the media are.
    """

    key: str
    tokens: list[int]
    salt: object = None
    priority: int = 0
    adapter: object = None
    every_position: bool = False
    spans: tuple[Span, ...] = ()
    computed: int = 0  # tokens with entries in the cache
    cached: int = 0  # of these, how many were found there before any was computed for it
    slot: Slot | None = None
    rank: tuple[int, int] = (0, 0)
    prompt_length: int = field(init=False)
    begun: bool = False  # something was computed for it

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)

    @property
    def remaining(self) -> int:
        """Tokens still to compute; 0 means that the next token is to be sampled."""
        return len(self.tokens) - self.computed

    @property
    def next_span(self) -> Span | None:
        """The medium that is computed next, now or after some tokens."""
        return next((span for span in self.spans if span.start >= self.computed), None)

    @property
    def unanswered(self) -> bool:
        """Whether its prompt, or what was computed before it was preempted, has not given the next token yet."""
        return self.remaining > 1 or len(self.tokens) == self.prompt_length

    def __lt__(self, other: Sequence) -> bool:
        return self.rank < other.rank


class CellPool:
    """Counts cells, their holders, and which of them running sequences hold. Cells are numbered only to be counted."""

    def __init__(self, capacity: int) -> None:
        self._free = list(range(capacity - 1, -1, -1))
        self._holders = [0] * capacity
        self._pins = [0] * capacity
        self.capacity = capacity
        self.pinned = 0

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, number: int) -> list[int]:
        """Fresh cells, held once and pinned. ``number`` must not exceed ``free``."""
        taken = [self._free.pop() for _ in range(number)]
        for cell in taken:
            self._holders[cell] = self._pins[cell] = 1
        self.pinned += number
        return taken

    def hold(self, cells: list[int]) -> None:
        for cell in cells:
            self._holders[cell] += 1

    def release(self, cells: list[int]) -> None:
        for cell in cells:
            self._holders[cell] -= 1
            if not self._holders[cell]:
                self._free.append(cell)

    def pin(self, cells: list[int]) -> None:
        for cell in cells:
            self.pinned += not self._pins[cell]
            self._pins[cell] += 1

    def unpin(self, cells: list[int]) -> None:
        for cell in cells:
            self._pins[cell] -= 1
            self.pinned -= not self._pins[cell]


@dataclass(eq=False)
class Checkpoint:
    """A copy of the state that a slot had when it held ``length`` tokens; ``data`` is the business of who takes it."""

    length: int
    data: bytes = b""
    used: int = 0


@dataclass(eq=False)
class Slot:
    """A libllama sequence id: used by a sequence (``owner``), or keeping a cached prefix, or empty."""

    index: int
    owner: Sequence | None = None
    tokens: list[int] = field(default_factory=list)  # while nobody owns it: what its cells hold
    spans: tuple[Span, ...] = ()  # of these tokens, what is media
    prompt_length: int = 0  # of these tokens, how many were a prompt
    salt: object = None
    cells: list[int] = field(default_factory=list)
    priority: int = 0  # of whom they were
    used: int = 0
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)  # by their lengths

    @property
    def worth(self) -> tuple[int, int]:
        """What is kept longer is greater."""
        return -self.priority, self.used

    @property
    def content(self) -> list[int]:
        return self.tokens if self.owner is None else self.owner.tokens

    def position(self, length: int) -> int:
        """The model's position behind the first ``length`` tokens."""
        return position(self.spans if self.owner is None else self.owner.spans, length)


@dataclass(frozen=True)
class Copy:
    """Let slot ``target`` share the cells of slot ``source`` before a position."""

    source: int
    target: int
    end: int


@dataclass(frozen=True)
class Restore:
    """Give slot ``slot`` the state of a checkpoint; what follows it is removed next."""

    slot: int
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Remove:
    """Let slot ``slot`` forget everything from position ``start`` on."""

    slot: int
    start: int


@dataclass(frozen=True)
class Piece:
    """``count`` tokens of ``sequence`` from ``start`` on, or the medium ``span`` that stands there."""

    sequence: Sequence
    slot: int
    start: int
    count: int
    span: Span | None = None


@dataclass
class Plan:
    """One step: the cache edits first, in order, then the batch, then the checkpoints of slots. ``prefill`` tells its
    kind. A medium is its step's only piece."""

    edits: list[Copy | Restore | Remove] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    checkpoints: list[tuple[int, Checkpoint]] = field(default_factory=list)
    prefill: bool = False
