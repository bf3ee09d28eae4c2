"""No key gets more than its limits in any window of time, whoever counts; what was not used is given back."""

from __future__ import annotations

import mmap
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import RateLimitError
from portico.keys import Key
from portico.keys.accounts import ANSWER, Accounts, Reservation, Visit, table_size
from portico.keys.spans import DAY, MINUTE, Span, Window


class Clock:
    """Unix seconds, by hand."""

    def __init__(self, now: float = 1_800_000_000.25) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def window(span: Span) -> Window:
    return Window(memoryview(bytearray(8 * span.words)).cast("q"), span)


def most_in_any(events: list[tuple[float, int]], length: float) -> int:
    """The largest sum of what was counted within ``length`` seconds."""
    return max((sum(n for at, n in events if begin <= at < begin + length) for begin, _ in events), default=0)


PAUSES = st.one_of(st.just(0.0), st.floats(0, 2), st.floats(0, 90), st.floats(0, 90_000))


@given(st.lists(st.tuples(PAUSES, st.integers(1, 5)), max_size=60), st.integers(5, 12), st.sampled_from([MINUTE, DAY]))
def test_never_more_than_the_limit_in_any_window(comings: list[tuple[float, int]], limit: int, span: Span) -> None:
    counted, now, passed = window(span), 1_800_000_000.0, list[tuple[float, int]]()
    length = span.width * span.slots
    for pause, amount in comings:
        now += pause
        if counted.total(now) + amount <= limit:
            counted.add(amount, now)
            passed.append((now, amount))
        else:
            wait = counted.wait(limit - amount, now)
            assert 0 < wait <= length + span.width
            assert counted.total(now + wait - 0.001) + amount > limit, "not a moment too late"
            assert counted.total(now + wait) + amount <= limit, "and not too early"
            now += wait
        assert most_in_any(passed, length) <= limit
    assert counted.total(now + length + span.width) == 0


@given(st.lists(st.tuples(st.floats(-200, 200), st.integers(1, 5)), max_size=40))
def test_a_clock_that_is_set_breaks_nothing(comings: list[tuple[float, int]]) -> None:
    counted, now = window(MINUTE), 1_800_000_000.0
    for jump, amount in comings:
        now += jump
        slot = counted.add(amount, now)
        counted.correct(-1, slot, now)
        assert counted.total(now) >= amount - 1
        assert counted.wait(0, now) <= 2 * 61
    assert counted.total(now + 300) == 0


KEY = Key(name="ann", requests_per_minute=5, tokens_per_minute=100, tokens_per_day=400, in_flight=2)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "reserve", "end", "refuse", "wait"]), st.integers(0, 1), st.integers(0, 60), PAUSES
    ),
    max_size=80,
)


@given(STEPS)
def test_no_key_gets_more_than_its_limits_from_two_processes(steps: list[tuple[str, int, int, float]]) -> None:
    clock = Clock()
    memory = mmap.mmap(-1, table_size(2))
    both = [Accounts(memory, 2, row, clock=clock) for row in range(2)]
    open_: list[tuple[Visit, Reservation | None, int, float]] = []
    requests: dict[Visit, tuple[float, int]] = {}
    tokens: list[tuple[float, int]] = []
    for what, who, amount, pause in steps:
        if what == "wait":
            clock.now += pause
        elif what == "enter":
            visit = both[who].visit(KEY)
            with suppress(RateLimitError):
                visit.enter(None)
                open_.append((visit, None, 0, clock.now))
        elif what == "reserve" and open_:
            visit, held, most, at = open_.pop(0)
            if held is None:
                with suppress(RateLimitError):
                    held = visit.reserve(amount, amount)
                    requests[visit] = (at, 1)
                    at, most = clock.now, 2 * amount
            open_.append((visit, held, most, at))
        elif open_:
            visit, held, most, at = open_.pop(0)
            if held is not None and what == "end":
                used = min(amount, most)
                held.settle(used)
                held.settle(99)  # only the first word counts
                held.cancel()
                tokens.append((at, used))
            elif held is not None:
                held.cancel()  # the engine did not take it
                held.settle(99)
                del requests[visit]
            visit.leave()
            visit.leave()
        assert len(open_) <= 2
        assert most_in_any([*requests.values()], 60) <= 5
        assert most_in_any(tokens, 60) <= 100
        assert most_in_any(tokens, 86400) <= 400
    for visit, held, _, _ in open_:
        if held is not None:
            held.cancel()
        visit.leave()
    (standing, _) = both[0].visit(KEY).standing()
    assert standing is not None
    account = both[1].of(KEY.owner)
    assert account.in_flight == 0


def test_requests_in_any_minute_are_bounded() -> None:
    clock = Clock()
    accounts = Accounts(clock=clock)
    key = Key(name="ann", requests_per_minute=3)
    passed: list[tuple[float, int]] = []
    for _ in range(400):
        visit = accounts.visit(key)
        with suppress(RateLimitError):
            visit.enter(None)
            visit.reserve(1, 1).settle(1)
            visit.leave()
            passed.append((clock.now, 1))
        clock.now += 0.7
    assert most_in_any(passed, 60) == 3
    assert len(passed) >= 12, "and it gets what it may"


def test_who_waits_as_told_is_served() -> None:
    clock = Clock()
    accounts = Accounts(clock=clock)
    key = Key(name="ann", tokens_per_minute=100)
    accounts.visit(key).reserve(50, 40).settle(80)
    clock.now += 20
    with pytest.raises(
        RateLimitError, match=r"limit of this API key is 100 tokens per minute: 80 are used and 30"
    ) as no:
        accounts.visit(key).reserve(10, 20)
    assert no.value.retry_after is not None
    clock.now += no.value.retry_after
    accounts.visit(key).reserve(10, 20)


def test_a_reservation_is_settled_once() -> None:
    accounts = Accounts(clock=Clock())
    key = Key(name="ann", requests_per_minute=9, tokens_per_minute=100, tokens_per_day=200)

    def left() -> tuple[int, int]:
        requests, tokens = accounts.visit(key).standing()
        assert requests is not None
        assert tokens is not None
        return requests.remaining, tokens.remaining

    visit = accounts.visit(key)
    visit.enter(None)
    held = visit.reserve(20, 30)
    assert left() == (8, 50)
    for again in (held.settle, held.settle):
        again(25)
        assert left() == (8, 75)
    held.cancel()
    visit.leave()
    visit.leave()
    assert left() == (8, 75)


def test_what_reaches_no_engine_does_not_count() -> None:
    accounts = Accounts(clock=Clock())
    key = Key(name="ann", requests_per_minute=1, tokens_per_minute=10)
    for _ in range(5):
        visit = accounts.visit(key)
        visit.enter(None)
        visit.leave()
    for _ in range(5):
        visit = accounts.visit(key)
        visit.enter(None)
        visit.reserve(4, 4).cancel()
        visit.leave()
    visit = accounts.visit(key)
    visit.enter(None)
    visit.reserve(4, 4)
    with pytest.raises(RateLimitError):
        accounts.visit(key).enter(None)


def test_a_request_that_may_be_larger_than_the_limit_runs_alone_and_is_owed() -> None:
    clock = Clock()
    accounts = Accounts(clock=clock)
    key = Key(name="ann", tokens_per_minute=100)
    large = accounts.visit(key).reserve(10, 5000)
    with pytest.raises(RateLimitError):
        accounts.visit(key).reserve(1, 1)
    clock.now += 59
    large.settle(250)
    clock.now += 3  # what was counted first has left, what it took more has not
    with pytest.raises(RateLimitError):
        accounts.visit(key).reserve(1, 1)
    clock.now += 60
    accounts.visit(key).reserve(1, 1)
    with pytest.raises(RateLimitError, match="The prompt has 101 tokens") as never:
        accounts.visit(key).reserve(101, 1)
    assert never.value.retry_after is None, "it is not worth trying again"


def test_lines_of_batches_count_for_the_day_alone() -> None:
    accounts = Accounts(clock=Clock())
    key = Key(name="ann", requests_per_minute=1, tokens_per_minute=10, tokens_per_day=100, in_flight=1)
    line = accounts.visit(key, later=True)
    line.reserve(40, 40).settle(60)
    line.leave()
    with pytest.raises(RateLimitError, match="100 tokens per day"):
        accounts.visit(key, later=True).reserve(40, 10)
    visit = accounts.visit(key)
    visit.enter(None)
    assert visit.standing()[1] is not None
    visit.reserve(5, 5)


def test_keys_without_limits_are_not_counted() -> None:
    accounts = Accounts(clock=Clock())
    visit = accounts.visit(Key(hash="00"))
    visit.enter(None)
    visit.reserve(10**9, ANSWER).settle(10**9)
    assert visit.standing() == (None, None)
    visit.leave()
    assert list(accounts.all()) == []
