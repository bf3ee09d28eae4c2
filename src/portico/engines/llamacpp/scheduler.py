"""Which tokens of which sequences the next batch computes. Pure Python: no model, no clock, no IO.

A sequence is a list of tokens of which the first ``computed`` have entries in the KV cache; scheduling means letting
``computed`` catch up with ``len(tokens)``. A step is one of two kinds, taken in turn when both are wanted:

- *decode*: one token of every sequence that lacks only its last. Its row gives the next token.
- *prefill*: pieces of prompts, never their last token. While others decode, the caller bounds the piece, so that a
  long prompt delays them by a slice and not by its length. Prompts share it evenly, so short ones pass long ones.

Keeping the two apart lets decoded tokens leave before the prefill that follows them, and gives every sampled token the
same arithmetic whether its prompt was cached or not.

The KV cache is one pool of cells, one per token, shared by all sequences. A *slot* is a libllama sequence id; copying
a prefix from slot to slot shares its cells. When a sequence ends its slot keeps the cells, as a cached prefix. Rules:

- Admission is by priority, then arrival. Nobody is admitted past a request that waits for room.
- A new sequence takes the longest prefix found in any slot of equal salt. If a running prompt is about to compute
  more of it, the newcomer waits for that instead: n choices of one prompt cost one prefill.
- Room is made by trimming the cached prefix that was used longest ago, from its tail; then by preempting the sequence
  of worst rank, which goes back to the queue and is recomputed later. The best-ranked sequence is never preempted, so
  every request is served as long as the pool holds one whole context.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from itertools import count
from typing import Final

__all__ = ["CellPool", "Copy", "Piece", "Plan", "Remove", "Scheduler", "Sequence"]

MARGIN: Final = 64  # cells that must be left after admission, so that a newcomer is not preempted at once
WORTH_WAITING: Final = 16  # tokens of shared prefix for which a newcomer waits


@dataclass(eq=False)
class Sequence:
    """One request's tokens on their way through the cache. ``tokens`` grows by what is sampled.

    ``every_position`` asks for logits at each prompt position: nothing is reused then. Lower ``priority`` is first.
    """

    key: str
    tokens: list[int]
    salt: str | None = None
    priority: int = 0
    every_position: bool = False
    computed: int = 0  # tokens with entries in the cache
    cached: int = 0  # of these, how many were found there when the sequence was first admitted
    slot: Slot | None = None
    rank: tuple[int, int] = (0, 0)
    prompt_length: int = field(init=False)
    admitted: bool = False

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)

    @property
    def remaining(self) -> int:
        """Tokens still to compute; 0 means that the next token is to be sampled."""
        return len(self.tokens) - self.computed

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
class Slot:
    """A libllama sequence id: used by a sequence (``owner``), or keeping a cached prefix, or empty."""

    index: int
    owner: Sequence | None = None
    tokens: list[int] = field(default_factory=list)  # while nobody owns it: what its cells hold
    prompt_length: int = 0  # of these tokens, how many were a prompt
    salt: str | None = None
    cells: list[int] = field(default_factory=list)
    used: int = 0

    @property
    def content(self) -> list[int]:
        return self.tokens if self.owner is None else self.owner.tokens


@dataclass(frozen=True)
class Copy:
    """Let slot ``target`` share the first ``length`` cells of slot ``source``."""

    source: int
    target: int
    length: int


@dataclass(frozen=True)
class Remove:
    """Let slot ``slot`` forget everything from position ``start`` on."""

    slot: int
    start: int


@dataclass(frozen=True)
class Piece:
    """``count`` tokens of ``sequence`` from position ``start`` on."""

    sequence: Sequence
    slot: int
    start: int
    count: int


@dataclass
class Plan:
    """One step: the cache edits first, in order, then the batch. ``prefill`` tells its kind."""

    edits: list[Copy | Remove] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    prefill: bool = False


class Scheduler:
    """Queue, slots and cells of one context.

    ``cells`` must hold the longest sequence that is ever submitted, less its last token; ``slots`` must exceed
    ``max_sequences`` by at least one. ``batch_tokens`` bounds a batch, ``max_rows`` the logit rows in it.
    ``reuse`` is False for models whose state cannot be cut back to a prefix.
    """

    def __init__(
        self, *, slots: int, cells: int, max_sequences: int, batch_tokens: int, max_rows: int, reuse: bool = True
    ) -> None:
        self.pool = CellPool(cells)
        self.running: list[Sequence] = []  # by rank
        self.waiting: list[Sequence] = []  # by rank
        self._slots = [Slot(index) for index in range(slots)]
        self._max_sequences = max_sequences
        self._batch_tokens = batch_tokens
        self._max_rows = max_rows
        self._reuse = reuse
        self._arrivals, self._clock = count(), count(1)
        self._prefilled_last = False
        self._plan = Plan()  # collects edits, also those made between steps

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        sequence.rank = (sequence.priority, next(self._arrivals))
        insort(self.waiting, sequence)

    def remove(self, sequence: Sequence) -> None:
        """The sequence has ended, or nobody wants it any more; its cells stay as a cached prefix."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
        else:
            self._retire(sequence)

    def flush(self) -> bool:
        """Forget cached prefixes; True when nothing is left, because nothing is running either."""
        for slot in self._slots:
            if slot.owner is None:
                self._trim(slot, len(slot.cells))
        return self.idle

    def plan(self, prefill_tokens: int) -> Plan:
        """The next step. ``prefill_tokens`` bounds a prefill while other sequences decode.

        What the plan holds counts as computed: the caller must carry it out. There are pieces unless it is ``idle``.
        """
        self._admit()
        decoding = [sequence for sequence in self.running if sequence.remaining == 1]
        prefilling = [sequence for sequence in self.running if sequence.remaining > 1]
        budget = min(prefill_tokens, self._batch_tokens) if decoding else self._batch_tokens
        # The best-ranked sequence can always make room, so at least one of the two kinds finds something to do.
        if self._prefilled_last or not prefilling:
            self._decode(decoding)
            if not self._plan.pieces:
                self._prefill(prefilling, budget)
        else:
            self._prefill(prefilling, budget)
            if not self._plan.pieces:
                self._decode(decoding)
        plan, self._plan = self._plan, Plan()
        self._prefilled_last = plan.prefill
        return plan

    # -- the two kinds of step ----------------------------------------------------------------------------------------

    def _decode(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:  # by rank, so whoever is preempted has no piece yet
            if sequence.slot is None:
                continue
            if self._make_room(1, sequence):
                self._add_piece(sequence, 1)
            else:
                self._preempt(sequence)

    def _prefill(self, sequences: list[Sequence], budget: int) -> None:
        rows = self._max_rows
        for left, sequence in zip(range(len(sequences), 0, -1), sequences, strict=True):
            share = min(sequence.remaining - 1, -(-budget // left), rows if sequence.every_position else budget)
            if sequence.slot is None or share <= 0:
                continue
            self._make_room(share, sequence)
            share = min(share, self.pool.free)
            if share:
                self._add_piece(sequence, share)
                self._plan.prefill = True
                budget -= share
                rows -= share if sequence.every_position else 0

    def _add_piece(self, sequence: Sequence, number: int) -> None:
        slot = sequence.slot
        assert slot is not None
        slot.cells += self.pool.take(number)
        self._plan.pieces.append(Piece(sequence, slot.index, sequence.computed, number))
        sequence.computed += number

    # -- admission ----------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        for sequence in self.waiting[: 2 * self._max_sequences]:
            if len(self.running) >= self._max_sequences:
                return
            source, length, coming = self._find_prefix(sequence)
            if coming - length >= WORTH_WAITING:
                continue  # a running prompt will have computed it in a moment
            shared = length if source is not None and source.owner is not None else 0
            if self.running and len(sequence.tokens) - shared + MARGIN > self._uncommitted():
                return
            self.waiting.remove(sequence)
            self._place(sequence, source, length)
            insort(self.running, sequence)

    def _uncommitted(self) -> int:
        """Cells that no running sequence holds or is going to fill with its prompt."""
        return self.pool.capacity - self.pool.pinned - sum(sequence.remaining for sequence in self.running)

    def _find_prefix(self, sequence: Sequence) -> tuple[Slot | None, int, int]:
        """The slot with the longest prefix of ``sequence`` that can be shared now, that length, and the length that
        some slot will have computed soon. The last token is never shared: its row is needed."""
        best: Slot | None = None
        length = coming = 0
        if not self._reuse or sequence.every_position:
            return best, length, coming
        for slot in self._slots:
            if (slot.cells or slot.owner) and slot.salt == sequence.salt:
                common = min(_common_prefix(slot.content, sequence.tokens), len(sequence.tokens) - 1)
                coming = max(coming, common)
                common = min(common, len(slot.cells))
                if common > length or (common == length and best and slot.used > best.used):
                    best, length = slot, common
        return best, length, coming

    def _place(self, sequence: Sequence, source: Slot | None, length: int) -> None:
        """Give ``sequence`` a slot that starts with the first ``length`` tokens of ``source``."""
        slot = None if source is not None and self._may_take_over(source, length) else self._empty_slot(source)
        if slot is None:
            assert source is not None
            slot = source
            self._trim(slot, len(slot.cells) - length)
        elif source is not None:
            slot.cells = source.cells[:length]
            self.pool.hold(slot.cells)
            source.used = next(self._clock)
            self._plan.edits.append(Copy(source.index, slot.index, length))
        self.pool.pin(slot.cells)
        slot.owner, slot.tokens, slot.salt = sequence, [], sequence.salt
        sequence.slot, sequence.computed = slot, length
        if not sequence.admitted:
            sequence.admitted, sequence.cached = True, length

    @staticmethod
    def _may_take_over(source: Slot, length: int) -> bool:
        """Whether a cached slot can become the newcomer's own: when all it would lose is the answer to a prompt that
        is being asked again. The new answer then gets the very cells of the old one, so the arithmetic repeats."""
        return source.owner is None and length >= min(len(source.cells), source.prompt_length - 1)

    def _empty_slot(self, source: Slot | None) -> Slot | None:
        """An empty slot, emptied if need be; None if there is none but ``source``."""
        idle = [slot for slot in self._slots if slot.owner is None and slot is not source]
        if not idle:
            return None
        slot = min(idle, key=lambda one: (bool(one.cells), one.used))
        self._trim(slot, len(slot.cells))
        return slot

    # -- room ---------------------------------------------------------------------------------------------------------

    def _make_room(self, number: int, sequence: Sequence) -> bool:
        """Try to have ``number`` free cells, at the cost of cached prefixes, then of sequences ranked worse."""
        while (lacking := number - self.pool.free) > 0:
            cached = [slot for slot in self._slots if slot.owner is None and slot.cells]
            if cached:
                slot = min(cached, key=lambda one: one.used)
                self._trim(slot, min(lacking, len(slot.cells)))
            elif self.running[-1] is not sequence:
                self._preempt(self.running[-1])
            else:
                return False
        return True

    def _trim(self, slot: Slot, number: int) -> None:
        """Drop the last ``number`` cells of an unowned slot."""
        if number:
            keep = len(slot.cells) - number
            self.pool.release(slot.cells[keep:])
            del slot.cells[keep:], slot.tokens[keep:]
            self._plan.edits.append(Remove(slot.index, keep))

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the queue. The cells stay as a cached prefix until they are needed."""
        self._retire(sequence)
        insort(self.waiting, sequence)

    def _retire(self, sequence: Sequence) -> None:
        slot = sequence.slot
        assert slot is not None
        self.running.remove(sequence)
        self.pool.unpin(slot.cells)
        slot.owner, slot.tokens, slot.used = None, sequence.tokens[: sequence.computed], next(self._clock)
        slot.prompt_length = sequence.prompt_length
        sequence.slot = None
        if not self._reuse:
            self._trim(slot, len(slot.cells))


def _common_prefix(first: list[int], second: list[int]) -> int:
    """How many leading tokens are equal; compares blocks at the speed of C."""
    at, end, block = 0, min(len(first), len(second)), 256
    while at < end and first[at : at + block] == second[at : at + block]:
        at += block
    at = min(at, end)
    while block > 1:
        block //= 2
        if at + block <= end and first[at : at + block] == second[at : at + block]:
            at += block
    return at
