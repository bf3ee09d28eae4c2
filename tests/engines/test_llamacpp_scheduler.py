"""The scheduler against a model of libllama's cache: whatever comes in, every batch it plans may be decoded.

``Cache`` below keeps what libllama keeps (which cells each sequence id holds, with token and position, and what a
recurrent state has seen) and refuses what libllama would refuse or compute wrongly. Sampled tokens are a function of
the whole sequence so far as the *cache* knows it, so a prefix that was shared, trimmed or recomputed wrongly shows in
the answer.
"""

from __future__ import annotations

import json
import zlib
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portico.engines.llamacpp import scheduler
from portico.engines.llamacpp.scheduler import (
    FEWEST_CHECKPOINTS,
    GIVING_WAY,
    MARGIN,
    SMALLEST_PIECE,
    TURN,
    WORTH_WAITING,
    Scheduler,
)
from portico.engines.llamacpp.slots import CellPool, Checkpoint, Copy, Plan, Restore, Sequence, Span, whole
from support.effort import examples

STATE_SIZE = 600  # bytes, of each copy of a state


class Cache:
    """``window``: cells that no further token looks at are given away at once."""

    def __init__(self, slots: int, cells: int, *, stateful: bool = False, window: int = 0) -> None:
        self.capacity, self.stateful, self.window = cells, stateful, window
        self.slots: list[list[_Cell]] = [[] for _ in range(slots)]
        self.states: list[list[int]] = [[] for _ in range(slots)]  # the tokens that a slot's state has seen
        self.first = [0] * slots  # the first position that is still there

    @property
    def used(self) -> int:
        return len({id(cell) for slot in self.slots for cell in slot})

    def first_kept(self, slot: int) -> int:
        return self.first[slot] if self.slots[slot] else -1

    def apply(self, plan: Plan) -> None:
        for edit in plan.edits:
            if isinstance(edit, Copy):
                assert not self.slots[edit.target], "copied into a slot that is not empty"
                source = self.slots[edit.source]
                assert _end(source) >= edit.end, "copied more than there is"
                self.slots[edit.target] = _before(source, edit.end)
                self.states[edit.target], self.first[edit.target] = self.states[edit.source], self.first[edit.source]
            elif isinstance(edit, Restore):
                self.states[edit.slot] = json.loads(edit.checkpoint.data)
            else:
                assert _end(self.slots[edit.slot]) >= edit.start
                self.slots[edit.slot] = _before(self.slots[edit.slot], edit.start)
                if not edit.start:
                    self.states[edit.slot], self.first[edit.slot] = [], 0
                kept = len(self.slots[edit.slot])
                assert not self.stateful or len(self.states[edit.slot]) <= kept, "a state cannot be cut back"
        for piece in plan.pieces:
            slot = self.slots[piece.slot]
            assert len(slot) == piece.start, "positions must follow on"
            if self.stateful:
                assert self.states[piece.slot] == [cell.token for cell in slot], "the state of another sequence"
            if self.window:
                assert self.first[piece.slot] <= max(0, _end(slot) + 1 - self.window), "a hole in the window"
            tokens = piece.sequence.tokens[piece.start : piece.start + piece.count]
            at, span = _end(slot), piece.span
            if span is None:
                assert all(token >= 0 for token in tokens), "a medium is no tokens"
                slot.extend(_Cell(token, at + n, at + n + 1) for n, token in enumerate(tokens))
            else:
                assert plan.pieces == [piece], "a medium has its step to itself"
                assert tokens == [tokens[0]] * span.count, "a medium is computed whole"
                slot.extend(_Cell(token, at, at + span.positions) for token in tokens)
            self.states[piece.slot] = [*self.states[piece.slot], *tokens]
            if self.window:
                self.first[piece.slot] = max(self.first[piece.slot], _end(slot) + 1 - self.window)
        for number, checkpoint in plan.checkpoints:
            assert len(self.states[number]) == checkpoint.length
            checkpoint.data = json.dumps(self.states[number]).encode().ljust(STATE_SIZE)
        assert self.used <= self.capacity, "no room in the cache"


class _Cell:
    """Equal only to itself. All cells of a medium are at one position, as with M-RoPE; ``next`` is that behind it."""

    def __init__(self, token: int, at: int, next: int) -> None:
        self.token, self.at, self.next = token, at, next


def _end(slot: list[_Cell]) -> int:
    return slot[-1].next if slot else 0


def _before(slot: list[_Cell], position: int) -> list[_Cell]:
    kept = [cell for cell in slot if cell.at < position]
    assert _end(kept) <= position, "a medium is cut"
    return kept


def answer(tokens: list[int]) -> int:
    """The 'model': the next token of a sequence."""
    return zlib.crc32(bytes(token % 251 for token in tokens)) % 97


class Machine:
    """Runs a scheduler over a cache and checks every step."""

    def __init__(
        self,
        *,
        cells: int,
        max_sequences: int,
        batch_tokens: int,
        rows: int = 8,
        state_bytes: int | None = None,
        window: int = 0,
    ) -> None:
        self.slots = max_sequences * 3
        self.batch_tokens, self.rows, self.max_sequences = batch_tokens, rows, max_sequences
        self.scheduler = Scheduler(
            slots=self.slots,
            cells=cells,
            max_sequences=max_sequences,
            batch_tokens=batch_tokens,
            max_rows=rows,
            state_bytes=state_bytes,
            window=window,
            first_kept=lambda slot: self.cache.first_kept(slot),
        )
        self.cache = Cache(self.slots, cells, stateful=state_bytes is not None, window=window)
        self.wanted: dict[Sequence, int] = {}  # length at which each ends
        self.done: list[Sequence] = []
        self.computed = 0
        self.begun: set[Sequence] = set()  # those of which something was computed
        self.most_states = max(FEWEST_CHECKPOINTS, (state_bytes or 0) // STATE_SIZE)

    @property
    def states(self) -> set[Checkpoint]:
        """The copies of states that are kept."""
        return {one for slot in self.scheduler._slots for one in slot.checkpoints.values()}

    def submit(self, key: str, prompt: list[int], new: int, **rules: object) -> Sequence:
        sequence = Sequence(key, list(prompt), **rules)  # type: ignore[arg-type]
        self.wanted[sequence] = len(prompt) + new
        self.scheduler.submit(sequence)
        return sequence

    def abort(self, sequence: Sequence) -> None:
        if self.wanted.pop(sequence, None) is not None:
            self.scheduler.remove(sequence)

    def step(self, prefill_tokens: int = 16) -> Plan:
        best = min((sequence.priority for sequence in self.wanted if sequence.unanswered), default=None)
        others_decode = any(
            sequence.remaining == 1 and (best is None or sequence.priority <= best)
            for sequence in self.scheduler.running
        )
        plan = self.scheduler.plan(prefill_tokens)
        assert plan.pieces, "an engine with work to do must do some"
        assert len({piece.sequence.adapter for piece in plan.pieces}) == 1, "an adapter is applied to all of a batch"
        if best is not None:
            assert all(piece.sequence.priority <= best for piece in plan.pieces), "a better one has no first token yet"
        assert len(self.states) <= self.most_states, "copies of states take more than they may"
        self.cache.apply(plan)
        size = sum(piece.count for piece in plan.pieces)
        self.computed += size
        alone = plan.pieces[0].span is not None
        assert alone or size <= self.batch_tokens
        assert sum(piece.count for piece in plan.pieces if piece.sequence.every_position) <= self.rows
        if plan.prefill and not alone and others_decode and all(s in self.scheduler.running for s in self.wanted):
            assert size <= prefill_tokens
        assert len(self.scheduler.running) <= self.max_sequences
        for piece in plan.pieces:
            sequence = piece.sequence
            if sequence not in self.begun:
                self.begun.add(sequence)
                assert piece.start == sequence.cached, "what is said to be cached was not computed"
            if plan.prefill:
                assert sequence.remaining >= 1, "a prefill leaves the last token"
            else:
                assert piece.count == 1
                assert sequence.remaining == 0
                held = [cell.token for cell in self.cache.slots[piece.slot]]
                assert held == sequence.tokens, "the cache holds another sequence"
                sequence.tokens.append(answer(held))
                if len(sequence.tokens) >= self.wanted[sequence]:
                    self.scheduler.remove(sequence)
                    del self.wanted[sequence]
                    self.done.append(sequence)
        return plan

    def run(self, limit: int = 20000) -> None:
        for _ in range(limit):
            if self.scheduler.idle:
                return
            self.step()
        raise AssertionError("never done")

    def check_done(self) -> None:
        for sequence in self.done:
            tokens = sequence.tokens[: sequence.prompt_length]
            while len(tokens) < len(sequence.tokens):
                tokens.append(answer(tokens))
            assert sequence.tokens == tokens


requests = st.tuples(
    st.integers(0, 3),  # which stem the prompt starts with
    st.integers(0, 60),  # how much of the stem
    st.lists(st.integers(0, 5), min_size=1, max_size=20),  # its own tail
    st.integers(1, 30),  # tokens to generate
    st.sampled_from([None, "salt", "other"]),
    st.sampled_from([0, 0, 0, 1, -1]),
    st.sampled_from([False, False, False, True]),
)
STEMS = [[stem * 7 + i % 11 for i in range(60)] for stem in range(4)]
MEDIA = [(), (Span(10, 12, 3), Span(22, 5, 5), Span(40, 20, 7)), (), (Span(0, 9, 2), Span(30, 1, 1))]  # of stems
for _stem, _spans in zip(STEMS, MEDIA, strict=True):
    for _span in _spans:
        _stem[_span.start : _span.end] = [-1 - _span.start] * _span.count


KINDS: list[dict[str, int]] = [{}, {"window": 8}, {"state_bytes": 0}, {"state_bytes": 6000}, {"state_bytes": 1 << 20}]


@pytest.fixture(autouse=True)
def early_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as in real prompts, in short ones."""
    monkeypatch.setattr(scheduler, "FIRST_CHECKPOINT", 4)
    monkeypatch.setattr(scheduler, "BEFORE_THE_END", 3)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(st.tuples(requests, st.integers(0, 6)), min_size=1, max_size=14),
    aborts=st.sets(st.integers(0, 13), max_size=4),
    flushes=st.sets(st.integers(0, 13), max_size=2),
    cells=st.integers(112, 300),
    max_sequences=st.integers(1, 5),
    batch_tokens=st.integers(8, 64),
    kind=st.sampled_from(KINDS),
)
def test_every_request_gets_its_own_answer(
    arrivals: list[tuple[tuple[int, int, list[int], int, str | None, int, bool], int]],
    aborts: set[int],
    flushes: set[int],
    cells: int,
    max_sequences: int,
    batch_tokens: int,
    kind: dict[str, int],
) -> None:
    """Any arrivals, aborts, flushes and sizes: plans are legal, requests end, answers are right, no cell leaks."""
    machine = Machine(cells=cells, max_sequences=max_sequences, batch_tokens=batch_tokens, **kind)
    sequences = []
    for (stem, shared, tail, new, salt, priority, every), steps in arrivals:
        shared = whole(MEDIA[stem], shared)
        spans = tuple(span for span in MEDIA[stem] if span.end <= shared)
        rules = {
            "salt": salt,
            "adapter": salt,
            "priority": priority,
            "every_position": every and not spans,
            "spans": spans,
        }
        sequences.append(machine.submit(str(len(sequences)), STEMS[stem][:shared] + tail, new, **rules))
        for _ in range(steps):
            if not machine.scheduler.idle:
                machine.step()
        if len(sequences) in flushes:
            assert machine.scheduler.flush() == machine.scheduler.idle
            assert not (machine.scheduler.idle and machine.states), "what is flushed keeps no memory"
    for number in aborts:
        if number < len(sequences):
            machine.abort(sequences[number])
            if not machine.scheduler.idle:
                machine.step()
    machine.run()
    machine.check_done()
    assert not machine.wanted
    machine.cache.apply(machine.scheduler.plan(8))  # edits that were left for the next step
    pool = machine.scheduler.pool
    assert pool.pinned == 0
    assert pool.free == cells - machine.cache.used


prompts = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 30)), min_size=1, max_size=6)  # length, tokens to come


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    later=prompts,
    before=st.integers(0, 40),
    wanted=prompts,
    max_sequences=st.integers(1, 4),
    batch_tokens=st.integers(8, 64),
    cells=st.sampled_from([160, 300, 2000]),
    kind=st.sampled_from(KINDS),
)
def test_first_tokens_come_as_if_nobody_worse_were_there(
    later: list[tuple[int, int]],
    before: int,
    wanted: list[tuple[int, int]],
    max_sequences: int,
    batch_tokens: int,
    cells: int,
    kind: dict[str, int],
) -> None:
    """In whatever state the others are: from now on until all have their first token, every step is the same."""

    def steps(crowded: bool) -> list[list[tuple[str, int, int]]]:
        machine = Machine(cells=cells, max_sequences=max_sequences, batch_tokens=batch_tokens, **kind)
        if crowded:
            for number, (length, new) in enumerate(later):
                machine.submit(f"later {number}", [number * 10] + [200] * length, new, priority=5)
            for _ in range(before):
                if not machine.scheduler.idle:
                    machine.step()
        mine = [
            machine.submit(str(number), [number * 10 + 5] + [100] * length, new)
            for number, (length, new) in enumerate(wanted)
        ]
        machine.scheduler._parties.clear()  # whose turn it is else depends on the last step
        found = []
        while any(one.unanswered for one in mine if one in machine.wanted):
            plan = machine.step()
            found.append([(piece.sequence.key, piece.start, piece.count) for piece in plan.pieces])
        machine.run()
        machine.check_done()
        return found

    assert steps(crowded=True) == steps(crowded=False)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 30), st.sampled_from([0, 5, 9]), st.integers(0, 9)),
        min_size=2,
        max_size=8,
    ),
    kind=st.sampled_from([{}, {"state_bytes": 1 << 20}]),
)
def test_who_gives_way_computes_nothing_again(arrivals: list[tuple[int, int, int, int]], kind: dict[str, int]) -> None:
    """Where cells and slots are plenty; so all together takes no more work than one after the other."""
    machine = Machine(cells=2000, max_sequences=4, batch_tokens=32, **kind)
    for number, (length, new, priority, steps) in enumerate(arrivals):
        machine.submit(str(number), [number * 10] + [100] * length, new, priority=priority)
        for _ in range(steps):
            if not machine.scheduler.idle:
                machine.step()
    machine.run()
    machine.check_done()
    assert machine.computed == sum(length + new for length, new, _, _ in arrivals)


def test_who_comes_later_goes_on_beside_answers() -> None:
    machine = Machine(cells=3000, max_sequences=4, batch_tokens=64)
    machine.submit("better", [1] * 50, 500)
    later = machine.submit("later", [2] * 160, 20, priority=5)
    for _ in range(80):
        machine.step(prefill_tokens=16)
    assert [one.key for one in machine.done] == ["later"]
    assert later.cached == 0


def test_prompts_of_who_comes_later_are_taken_in_small_pieces() -> None:
    machine = Machine(cells=3000, max_sequences=4, batch_tokens=512)
    machine.submit("later", [1] * 1000, 1, priority=5)
    assert [piece.count for piece in machine.step(prefill_tokens=320).pieces] == [320 // GIVING_WAY]
    assert [piece.count for piece in machine.step(prefill_tokens=20).pieces] == [SMALLEST_PIECE]


def test_a_better_one_takes_the_place_and_the_room_of_the_worst() -> None:
    machine = Machine(cells=300, max_sequences=3, batch_tokens=64)
    for key, priority in (("a", 0), ("b", 5), ("c", 9)):
        machine.submit(key, [ord(key)] * 40, 60, priority=priority)
    while len(machine.scheduler.running) < 3 or any(one.unanswered for one in machine.scheduler.running):
        machine.step()
    machine.submit("d", [1] * 30, 60)
    machine.step()
    assert [one.key for one in machine.scheduler.running] == ["a", "d", "b"]
    machine.submit("e", [2] * 120, 1)
    machine.step()
    assert [one.key for one in machine.scheduler.running] == ["a", "d", "e"]
    machine.run()
    machine.check_done()


def test_a_better_one_does_not_wait_for_the_prompt_of_a_worse() -> None:
    machine = Machine(cells=1000, max_sequences=4, batch_tokens=64)
    machine.submit("later", [1] * 300, 1, priority=5)
    machine.step()
    better = machine.submit("better", [1] * 300, 1)
    assert [piece.sequence for piece in machine.step().pieces] == [better]
    assert better.cached == SMALLEST_PIECE, "what is there already is shared"


@pytest.mark.parametrize(("cells", "max_sequences"), [(1000, 1), (250, 4)], ids=["few slots", "few cells"])
def test_prefixes_of_who_comes_later_give_way_first(cells: int, max_sequences: int) -> None:
    machine = Machine(cells=cells, max_sequences=max_sequences, batch_tokens=64)
    mine = [1] * 100
    machine.submit("mine", mine, 1)
    machine.run()
    for number in range(20):
        machine.submit(f"later {number}", [10 + number] * 100, 1, priority=5)
        machine.run()
    again = machine.submit("again", mine, 1)
    machine.run()
    assert again.cached == 99


def drain(machine: Machine) -> list[str]:
    machine.run()
    return [sequence.key for sequence in machine.done]


def test_arrival_then_priority_decides_who_waits() -> None:
    machine = Machine(cells=200, max_sequences=1, batch_tokens=32)
    for key, priority in (("a", 0), ("b", 0), ("late", 1), ("urgent", -1)):
        machine.submit(key, [ord(key[0])] * 5, 3, priority=priority)
    assert drain(machine) == ["urgent", "a", "b", "late"]


def test_a_long_prompt_does_not_stall_decoding() -> None:
    machine = Machine(cells=3000, max_sequences=4, batch_tokens=512)
    short = machine.submit("short", [1, 2, 3], 500)
    machine.step()
    machine.submit("long", list(range(2000)), 1)
    kinds = []
    while short in machine.wanted and len(kinds) < 60:
        kinds.append(machine.step(prefill_tokens=32).prefill)
    assert kinds.count(False) >= 29, "decode steps alternate with slices of the long prompt"
    assert not any(first and second for first, second in pairwise(kinds))


def test_a_short_prompt_passes_a_long_one() -> None:
    machine = Machine(cells=3000, max_sequences=4, batch_tokens=64)
    machine.submit("long", list(range(2000)), 1)
    machine.submit("short", [7] * 20, 1)
    assert drain(machine)[0] == "short"


def test_choices_of_one_prompt_cost_one_prefill() -> None:
    machine = Machine(cells=1000, max_sequences=4, batch_tokens=64)
    prompt = list(range(300))
    sequences = [machine.submit(str(choice), prompt, 1) for choice in range(4)]
    machine.run()
    assert machine.computed == 300 + 3
    assert [sequence.cached for sequence in sequences] == [0, 299, 299, 299]


@pytest.mark.parametrize("prompt", [5, 150])
def test_adapters_take_turns(prompt: int) -> None:
    machine = Machine(cells=3000, max_sequences=6, batch_tokens=32)
    for adapter in (None, "a", "b"):
        for number in range(2):
            machine.submit(f"{adapter} {number}", [number] + [9] * prompt, 40, adapter=adapter, salt=adapter)
    had: dict[object, int] = {}
    while len({one.adapter for one in machine.scheduler.running or machine.wanted}) == 3:
        plan = machine.step(prefill_tokens=8)
        adapter = plan.pieces[0].sequence.adapter
        had = {adapter: had.get(adapter, 0) + 1}
        assert had[adapter] <= TURN, "others wait for their turn"
    assert len(machine.done) <= 2, "nobody is left behind"
    machine.run()
    machine.check_done()


def test_prefixes_are_shared_only_between_equal_salts() -> None:
    machine = Machine(cells=1000, max_sequences=2, batch_tokens=64)
    prompt = list(range(100))
    cached = []
    for salt in (None, "a", "b", "a", None):
        sequence = machine.submit(str(salt), prompt, 1, salt=salt)
        machine.run()
        cached.append(sequence.cached)
    assert cached == [0, 0, 0, 99, 99]


def test_a_conversation_finds_all_that_was_said() -> None:
    machine = Machine(cells=1000, max_sequences=2, batch_tokens=64)
    first = machine.submit("1", list(range(50)), 20)
    machine.run()
    second = machine.submit("2", [*first.tokens, 5, 5, 5], 5)
    machine.run()
    assert second.cached == 69  # all but the last token, which was sampled but never computed


def test_a_conversation_goes_on_from_a_copy_of_the_state() -> None:
    """The next turn spells the end of the prompt otherwise, and the answer too."""
    machine = Machine(cells=1000, max_sequences=2, batch_tokens=64, state_bytes=1 << 20)
    machine.submit("1", list(range(100)), 20)
    machine.run()
    again = machine.submit("again", list(range(100)), 20)
    machine.run()
    second = machine.submit("2", [*range(97), 7, 7, 7, *range(50)], 5)
    machine.run()
    assert again.cached == 99
    assert second.cached == 96
    machine.check_done()
    whole = machine.submit("3", [*second.tokens, 5, 5, 5], 5)
    machine.run()
    assert whole.cached == len(second.tokens) - 1, "all that was said, without any copy"
    machine.check_done()


def test_choices_of_one_prompt_share_its_state() -> None:
    machine = Machine(cells=1000, max_sequences=4, batch_tokens=64, state_bytes=1 << 20)
    sequences = [machine.submit(str(choice), list(range(300)), 3) for choice in range(4)]
    machine.run()
    assert [sequence.cached for sequence in sequences] == [0, 296, 296, 296], "what is left is not worth waiting for"
    machine.check_done()


def test_copies_of_states_that_nobody_can_use_take_no_room() -> None:
    """Those of prefixes that gave way to others are gone, and the others keep theirs."""
    machine = Machine(cells=200, max_sequences=1, batch_tokens=64, state_bytes=6 * STATE_SIZE)
    machine.submit("kept", list(range(60)), 2)
    machine.run()
    for number in range(8):
        machine.submit(str(number), [50 + number] * 90, 2)
        machine.run()
        again = machine.submit(f"again {number}", [50 + number] * 90, 2)
        machine.run()
        assert again.cached == 89
    machine.check_done()
    assert machine.scheduler.flush()
    assert not machine.states


@pytest.mark.parametrize(("shared", "kind"), [(WORTH_WAITING, {}), (512, {"state_bytes": 1 << 20})])
def test_a_newcomer_waits_for_what_is_worth_it_and_no_less(shared: int, kind: dict[str, int]) -> None:
    """Prompts that begin alike share a state where a copy was taken; with one token less, the copy before."""
    for fewer in (0, 1):
        machine = Machine(cells=3000, max_sequences=2, batch_tokens=64, **kind)
        common = [1] * (shared - fewer)
        machine.submit("running", [*common, *[2] * 700], 1)
        newcomer = machine.submit("newcomer", [*common, *[3] * 50], 1)
        machine.run()
        assert newcomer.cached == (shared if not fewer else 256 if kind else 0)
        machine.check_done()


def test_what_a_running_sequence_holds_needs_no_room_again() -> None:
    machine = Machine(cells=300, max_sequences=2, batch_tokens=64)
    prompt = list(range(200))
    running = machine.submit("running", prompt, 20)
    while running.unanswered:
        machine.step()
    machine.submit("again", prompt, 20)
    machine.step()
    assert [one.key for one in machine.scheduler.running] == ["running", "again"]
    other = Machine(cells=300, max_sequences=2, batch_tokens=64)
    other.submit("cached", prompt, 1)
    other.run()
    other.submit("running", [7] * 60, 20)
    other.step()
    other.submit("again", prompt, 20)
    other.step()
    assert [one.key for one in other.scheduler.running] == ["running"], "what nobody holds may go"


def test_where_a_prompt_finds_no_room_answers_go_on_and_it_gives_way() -> None:
    machine = Machine(cells=300, max_sequences=5, batch_tokens=64)
    for key in "abcd":
        machine.submit(key, [ord(key)] * 5, 60)
    while any(one.unanswered for one in machine.scheduler.running) or len(machine.scheduler.running) < 4:
        machine.step()
    prompt = machine.submit("prompt", [1] * 150, 1)
    machine.step(prefill_tokens=1)
    assert prompt.slot is not None
    while machine.wanted and prompt.slot is not None:
        machine.step(prefill_tokens=1)
    assert prompt in machine.scheduler.waiting
    machine.run()
    machine.check_done()


def test_a_prefix_whose_window_is_gone_is_not_shared() -> None:
    machine = Machine(cells=1000, max_sequences=2, batch_tokens=64, window=16)
    machine.submit("1", list(range(100)), 50)
    machine.run()
    shorter = machine.submit("2", list(range(80)), 5)
    machine.run()
    longer = machine.submit("3", [*machine.done[0].tokens, 1, 2, 3], 5)
    machine.run()
    assert (shorter.cached, longer.cached) == (0, 149)
    machine.check_done()


def test_what_is_flushed_is_computed_anew() -> None:
    machine = Machine(cells=300, max_sequences=2, batch_tokens=64)
    prompt = list(range(60))
    machine.submit("first", prompt, 3)
    drain(machine)
    assert machine.cache.used
    assert machine.scheduler.flush()
    second = machine.submit("second", prompt, 3)
    drain(machine)
    assert second.cached == 0
    machine.check_done()
    running = machine.submit("running", prompt, 10)
    machine.step()
    assert not machine.scheduler.flush(), "what runs keeps its own"
    drain(machine)
    assert running.cached == len(prompt) - 1
    machine.check_done()


def test_scoring_a_prompt_reuses_nothing() -> None:
    machine = Machine(cells=1000, max_sequences=2, batch_tokens=64)
    machine.submit("1", list(range(50)), 1)
    machine.run()
    scored = machine.submit("2", list(range(50)), 1, every_position=True)
    machine.run()
    assert scored.cached == 0


def test_no_room_preempts_the_latest_and_finishes_it_later() -> None:
    machine = Machine(cells=200, max_sequences=3, batch_tokens=64)
    for key in "abc":
        machine.submit(key, [ord(key)] * 10, 150)
    assert drain(machine)[0] == "a"
    machine.check_done()
    assert len(machine.done) == 3


def test_the_preempted_goes_before_those_who_came_later() -> None:
    machine = Machine(cells=200, max_sequences=2, batch_tokens=64)
    for key, new in (("a", 130), ("b", 130), ("c", 5)):
        machine.submit(key, [ord(key)] * 10, new)
    machine.step()
    while len(machine.scheduler.waiting) < 2:
        machine.step()
    assert [sequence.key for sequence in machine.scheduler.waiting] == ["b", "c"]
    machine.run()
    machine.check_done()


def test_nobody_is_admitted_only_to_be_preempted() -> None:
    machine = Machine(cells=200, max_sequences=2, batch_tokens=64)
    machine.submit("a", [1] * 100, 60)
    machine.submit("b", [2] * 90, 10)
    machine.run()
    assert machine.computed == 100 + 59 + 90 + 9


def test_cached_prefixes_give_way_least_recently_used_first() -> None:
    machine = Machine(cells=400, max_sequences=1, batch_tokens=64)
    old, new = [1] * 100, [2] * 100
    for prompt in (old, new):
        machine.submit("fill", prompt, 1)
        machine.run()
    machine.submit("big", [3] * (400 - 100 - MARGIN), 1)
    machine.run()
    again = machine.submit("new", new, 1)
    machine.run()
    gone = machine.submit("old", old, 1)
    machine.run()
    assert again.cached == 99
    assert gone.cached < 99


@given(st.lists(st.tuples(st.sampled_from(["take", "share", "drop", "pin", "unpin"]), st.integers(0, 9)), max_size=40))
def test_cells_are_counted_once(actions: list[tuple[str, int]]) -> None:
    pool = CellPool(30)
    held: list[list[int]] = []
    pinned: list[list[int]] = []
    for action, number in actions:
        if action == "take" and number <= pool.free:
            held.append(pool.take(number))
            pool.unpin(held[-1])
        elif action == "share" and held:
            held.append(held[number % len(held)][: number + 1])
            pool.hold(held[-1])
        elif action == "drop" and held and not pinned:
            pool.release(held.pop(number % len(held)))
        elif action == "pin" and held:
            pinned.append(held[number % len(held)])
            pool.pin(pinned[-1])
        elif action == "unpin" and pinned:
            pool.unpin(pinned.pop(number % len(pinned)))
        assert pool.free == 30 - len({cell for cells in held for cell in cells})
        assert pool.pinned == len({cell for cells in pinned for cell in cells})


def test_a_pool_smaller_than_a_sequence_is_a_misuse_that_shows() -> None:
    machine = Machine(cells=20, max_sequences=1, batch_tokens=8)
    machine.submit("big", list(range(40)), 1)
    with pytest.raises(AssertionError, match="must do some"):
        machine.run()
