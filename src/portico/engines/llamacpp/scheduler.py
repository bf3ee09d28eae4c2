"""Which tokens of which sequences the next batch computes. Pure Python: no model, no clock, no IO.

A sequence is a list of tokens of which the first ``computed`` have entries in the KV cache; scheduling means letting
``computed`` catch up with ``len(tokens)``. A step is one of two kinds, taken in turn when both are wanted:

- *decode*: one token of every sequence that lacks only its last. Its row gives the next token.
- *prefill*: pieces of prompts, never their last token. While others decode, the caller bounds the piece, so that a
  long prompt delays them by a slice and not by its length. Prompts share it evenly, so short ones pass long ones.
  A medium in a prompt (a *span*: embeddings, no tokens) is a piece that nothing shares a batch with, whatever it takes.

A step is of one LoRA *adapter*, since that is applied to all of a batch: the adapters of those who run take turns of
``TURN`` steps, one after the other. Each has its own prefixes, by the salt.

Keeping the two apart lets decoded tokens leave before the prefill that follows them, and gives every sampled token the
same arithmetic whether its prompt was cached or not.

The KV cache is one pool of cells, one per token, shared by all sequences. A *slot* is a libllama sequence id; copying
a prefix from slot to slot shares its cells. When a sequence ends its slot keeps the cells, as a cached prefix. Rules:

- Admission is by priority, then arrival. Nobody is admitted past a request that waits for room, and who runs with a
  worse priority is preempted for it.
- A new sequence takes the longest prefix found in any slot of equal salt. If a running prompt of no worse priority is
  about to compute more of it, the newcomer waits for that instead: n choices of one prompt cost one prefill.
- Room is made by trimming the cached prefix of the worst priority that was used longest ago, from its tail; then by
  preempting the sequence of worst rank, which goes back to the queue and is recomputed later. The best-ranked sequence
  is never preempted, so every request is served as long as the pool holds one whole context.
- As long as a sequence has no token of an answer yet, none of a worse priority computes anything. Nor are steps long
  that only compute prompts of a priority worse than the usual, since a better one may come during them. So a first
  token comes as soon as if nobody worse were there, but for the rest of one step. Beside sequences that have their
  first token those of worse priority go on: they starve only while prompts of better ones follow on each other.

Two kinds of model keep less than a cell for every token. Those with a *sliding window* give away cells that no further
token will look at: a prefix can be shared only while its last ``window`` cells are all there. Those with a recurrent
*state* (hybrids too) have it for all the tokens of a slot at once, and it cannot be cut back: copies of it are taken at
some lengths of a prompt, and a prefix ends at one of these, or where the slot itself does.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from portico.engines.llamacpp.slots import (
    CellPool,
    Checkpoint,
    Copy,
    Piece,
    Plan,
    Remove,
    Restore,
    Sequence,
    Slot,
    Span,
    position,
    whole,
)

__all__ = ["Scheduler"]

USUAL: Final = 0  # priority
GIVING_WAY: Final = 16  # the part of a slice that is computed at once of prompts with a worse one
SMALLEST_PIECE: Final = 8  # tokens, of these; less would waste the batch
MARGIN: Final = 64  # cells that must be left after admission, so that a newcomer is not preempted at once
TURN: Final = 4  # steps of one adapter while others wait: to change it costs time
WORTH_WAITING: Final = 16  # tokens of shared prefix for which a newcomer waits
FIRST_CHECKPOINT: Final = 512  # tokens; then at every doubling, for prompts that begin alike
FEWEST_CHECKPOINTS: Final = 4  # however large they are
BEFORE_THE_END: Final = 16  # tokens of a prompt's end, which the next turn of a conversation may spell otherwise


@dataclass(eq=False)
class _Party:
    """The sequences of one adapter, among those that run."""

    adapter: object
    steps: int = 0  # of its turn
    prefilled_last: bool = False


class Scheduler:
    """Queue, slots and cells of one context.

    ``cells`` must hold the longest sequence that is ever submitted, less its last token; ``slots`` must exceed
    ``max_sequences`` by at least one. ``batch_tokens`` bounds a batch, ``max_rows`` the logit rows in it.
    ``state_bytes`` is what copies of its state may take for a model that has one, None for others; ``window`` is the
    width (tokens) of a sliding window, and ``first_kept`` tells the first position that a slot still holds.
    """

    def __init__(
        self,
        *,
        slots: int,
        cells: int,
        max_sequences: int,
        batch_tokens: int,
        max_rows: int,
        state_bytes: int | None = None,
        window: int = 0,
        first_kept: Callable[[int], int] = lambda slot: 0,
    ) -> None:
        self.pool = CellPool(cells)
        self.running: list[Sequence] = []  # by rank
        self.waiting: list[Sequence] = []  # by rank
        self._slots = [Slot(index) for index in range(slots)]
        self._max_sequences = max_sequences
        self._batch_tokens = batch_tokens
        self._max_rows = max_rows
        self._stateful, self._state_bytes = state_bytes is not None, state_bytes or 0
        self._window, self._first_kept = window, first_kept
        self._arrivals, self._clock = count(), count(1)
        self._parties: list[_Party] = []  # those that run, in turn
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
        first = next((sequence.priority for sequence in self.running if sequence.unanswered), None)
        running = [sequence for sequence in self.running if first is None or sequence.priority <= first]
        decoding = [sequence for sequence in running if sequence.remaining == 1]
        prefilling = [sequence for sequence in running if sequence.remaining > 1]
        budget = min(prefill_tokens, self._batch_tokens) if decoding else self._batch_tokens
        if first is not None and first > USUAL:
            budget = min(budget, max(SMALLEST_PIECE, prefill_tokens // GIVING_WAY))
        # The best-ranked sequence can always make room, so at least one kind of one adapter finds something to do.
        for party in self._in_turn():
            decodes = [sequence for sequence in decoding if sequence.adapter is party.adapter]
            prefills = [sequence for sequence in prefilling if sequence.adapter is party.adapter]
            if party.prefilled_last or not prefills:
                self._decode(decodes)
                if not self._plan.pieces:
                    self._prefill(prefills, budget)
            else:
                self._prefill(prefills, budget)
                if not self._plan.pieces:
                    self._decode(decodes)
            if self._plan.pieces:
                self._had(party)
                break
        plan, self._plan = self._plan, Plan()
        return plan

    # -- whose step it is ---------------------------------------------------------------------------------------------

    def _in_turn(self) -> list[_Party]:
        """Those who may have this step, the first first; newcomers are last."""
        adapters = list(dict.fromkeys(sequence.adapter for sequence in self.running))
        known = [party for party in self._parties if party.adapter in adapters]
        there = [party.adapter for party in known]
        self._parties = known + [_Party(adapter) for adapter in adapters if adapter not in there]
        return self._parties

    def _had(self, party: _Party) -> None:
        """The step is this party's, and perhaps the last of its turn."""
        party.prefilled_last = self._plan.prefill
        party.steps = party.steps % TURN + 1
        if party.steps == TURN:
            self._parties = [*(one for one in self._parties if one is not party), party]

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
            span = sequence.next_span
            if span is not None and span.start == sequence.computed:
                if self._prefill_span(sequence, span):
                    return
                continue
            share = min(sequence.remaining - 1, -(-budget // left), rows if sequence.every_position else budget)
            if span is not None:
                share = min(share, span.start - sequence.computed)
            if self._stateful:
                share = min([share, *(at - sequence.computed for at in _checkpoints_ahead(sequence))])
            if sequence.slot is None or share <= 0:
                continue
            self._make_room(share, sequence)
            share = min(share, self.pool.free)
            if share:
                self._add_piece(sequence, share)
                self._plan.prefill = True
                budget -= share
                rows -= share if sequence.every_position else 0

    def _prefill_span(self, sequence: Sequence, span: Span) -> bool:
        """Have a medium computed in this step, if nothing else is and there is room for all of it."""
        if sequence.slot is None or self._plan.pieces:
            return False
        self._make_room(span.count, sequence)
        if self.pool.free < span.count:
            return False
        self._add_piece(sequence, span.count, span)
        self._plan.prefill = True
        return True

    def _add_piece(self, sequence: Sequence, number: int, span: Span | None = None) -> None:
        slot = sequence.slot
        assert slot is not None
        slot.cells += self.pool.take(number)
        self._plan.pieces.append(Piece(sequence, slot.index, sequence.computed, number, span))
        if self._stateful and sequence.computed + number in _checkpoints_ahead(sequence):
            self._keep(slot, sequence.computed + number)
        sequence.computed, sequence.begun = sequence.computed + number, True

    def _keep(self, slot: Slot, length: int) -> None:
        """Have a checkpoint taken after this step, in place of those that were used longest ago if need be."""
        kept = {one for each in self._slots for one in each.checkpoints.values()}
        size = max((len(one.data) for one in kept), default=0)  # the same for all; those of this step have none yet
        while len(kept) >= FEWEST_CHECKPOINTS and (len(kept) + 1) * size > self._state_bytes:
            oldest = min(kept, key=lambda one: one.used)
            kept.remove(oldest)
            for each in self._slots:
                if each.checkpoints.get(oldest.length) is oldest:
                    del each.checkpoints[oldest.length]
        taken = slot.checkpoints[length] = Checkpoint(length, used=next(self._clock))
        self._plan.checkpoints.append((slot.index, taken))

    # -- admission ----------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        for sequence in self.waiting[: 2 * self._max_sequences]:
            if len(self.running) >= self._max_sequences and self.running[-1].priority <= sequence.priority:
                return  # at once: this is how it is in most steps of a busy engine
            source, length, coming = self._find_prefix(sequence)
            if coming - length >= WORTH_WAITING:
                continue  # a running prompt will have computed it in a moment
            while self.running and not self._fits(sequence, source, length):
                if self.running[-1].priority <= sequence.priority:
                    return
                self._preempt(self.running[-1])
            self.waiting.remove(sequence)
            self._place(sequence, source, length)
            insort(self.running, sequence)

    def _fits(self, sequence: Sequence, source: Slot | None, length: int) -> bool:
        """Whether one more may run, and its tokens have room in the cells that no running sequence holds or is going to
        fill with its prompt."""
        shared = length if source is not None and source.owner is not None else 0
        uncommitted = self.pool.capacity - self.pool.pinned - sum(one.remaining for one in self.running)
        return len(self.running) < self._max_sequences and len(sequence.tokens) - shared + MARGIN <= uncommitted

    def _find_prefix(self, sequence: Sequence) -> tuple[Slot | None, int, int]:
        """The slot with the longest prefix of ``sequence`` that can be shared now, that length, and the length that
        some slot will have computed soon. The last token is never shared: its row is needed."""
        best: Slot | None = None
        length = coming = 0
        if sequence.every_position:
            return best, length, coming
        for slot in self._slots:
            if (slot.cells or slot.owner) and slot.salt == sequence.salt:
                common = min(_common_prefix(slot.content, sequence.tokens), len(sequence.tokens) - 1)
                common = whole(sequence.spans, common)
                now, soon = self._shareable(slot, common)
                if slot.owner is not None and slot.owner.priority <= sequence.priority:
                    coming = max(coming, soon)
                if now > length or (now == length and best and slot.used > best.used):
                    best, length = slot, now
        return best, length, coming

    def _shareable(self, slot: Slot, common: int) -> tuple[int, int]:
        """How many of the ``common`` first tokens of a slot can be shared now, and how many soon."""
        if self._stateful:
            now = max((at for at in slot.checkpoints if at <= min(common, len(slot.cells))), default=0)
            if slot.owner is None:
                return max(now, len(slot.cells) if len(slot.cells) <= common else 0), now
            return now, max((at for at in _checkpoints_ahead(slot.owner) if at <= common), default=now)
        now = min(common, len(slot.cells))
        if self._window and not 0 <= self._first_kept(slot.index) <= max(0, slot.position(now) + 1 - self._window):
            now = 0
        return now, common if common > len(slot.cells) else now

    def _place(self, sequence: Sequence, source: Slot | None, length: int) -> None:
        """Give ``sequence`` a slot that starts with the first ``length`` tokens of ``source``."""
        slot = None if source is not None and self._may_take_over(source, length) else self._empty_slot(source)
        checkpoint = source.checkpoints.get(length) if source is not None else None
        if checkpoint is not None:
            checkpoint.used = next(self._clock)
        if slot is None:
            assert source is not None
            slot = source
            if checkpoint is not None and length < len(slot.cells):
                self._plan.edits.append(Restore(slot.index, checkpoint))
            self._trim(slot, len(slot.cells) - length)
        elif source is not None:
            self._plan.edits.append(Copy(source.index, slot.index, position(sequence.spans, length)))
            if checkpoint is not None and (source.owner is not None or length < len(source.cells)):
                self._plan.edits.append(Restore(slot.index, checkpoint))
            slot.cells = source.cells[:length]
            slot.checkpoints = {at: one for at, one in source.checkpoints.items() if at <= length}
            self.pool.hold(slot.cells)
            source.used = next(self._clock)
        self.pool.pin(slot.cells)
        slot.owner, slot.tokens, slot.spans, slot.salt = sequence, [], (), sequence.salt
        sequence.slot, sequence.computed = slot, length
        if not sequence.begun:
            sequence.cached = length

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
        slot = min(idle, key=lambda one: (bool(one.cells), *one.worth))
        self._trim(slot, len(slot.cells))
        return slot

    # -- room ---------------------------------------------------------------------------------------------------------

    def _make_room(self, number: int, sequence: Sequence) -> bool:
        """Try to have ``number`` free cells, at the cost of cached prefixes, then of sequences ranked worse."""
        while (lacking := number - self.pool.free) > 0:
            cached = [slot for slot in self._slots if slot.owner is None and slot.cells]
            if cached:
                slot = min(cached, key=lambda one: one.worth)
                self._trim(slot, len(slot.cells) if self._stateful else min(lacking, len(slot.cells)))
            elif self.running[-1] is not sequence:
                self._preempt(self.running[-1])
            else:
                return False
        return True

    def _trim(self, slot: Slot, number: int) -> None:
        """Drop the last ``number`` cells of an unowned slot, or some more where a medium would be cut."""
        if number:
            keep = whole(slot.spans, len(slot.cells) - number)
            at = slot.position(keep)
            slot.spans = tuple(span for span in slot.spans if span.end <= keep)
            self.pool.release(slot.cells[keep:])
            del slot.cells[keep:], slot.tokens[keep:]
            slot.checkpoints = {at: one for at, one in slot.checkpoints.items() if at <= keep}
            self._plan.edits.append(Remove(slot.index, at))

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
        slot.spans = tuple(span for span in sequence.spans if span.end <= sequence.computed)
        slot.prompt_length, slot.priority = sequence.prompt_length, sequence.priority
        sequence.slot = None


def _checkpoints_ahead(sequence: Sequence) -> list[int]:
    """The lengths still to come at which the state of ``sequence`` is worth a copy: see the constants, and all of a
    prompt but its last token, for who asks it again. Past its prompt there are none."""
    whole = sequence.prompt_length - 1
    lengths = [whole, whole - BEFORE_THE_END]
    length = FIRST_CHECKPOINT
    while length < whole:
        lengths.append(length)
        length *= 2
    return [at for at in lengths if at > sequence.computed]


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
