"""Which host gets a request: where its prefix is, where all front doors would send it, and never far above the rest."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.engines import placement as module
from portico.engines.placement import BLOCK, MANY, SHARE, SLACK, Placement
from portico.events import EngineRequest, SamplingParams

HOSTS = ("a:1", "b:1", "c:1")
IDLE = dict.fromkeys(HOSTS, 0)


def asking(ids: Sequence[int], key: str | None = None, salt: str | None = None) -> EngineRequest:
    return EngineRequest("r", ids, SamplingParams(max_tokens=1), cache_key=key, cache_salt=salt)


def words(seed: int, blocks: float) -> list[int]:
    made = random.Random(seed)
    return [made.randrange(50_000) for _ in range(int(blocks * BLOCK))]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(0, 4), st.none() | st.sampled_from("xy"), st.booleans())),
    st.booleans(),
)
def test_no_host_gets_far_above_the_others(asked: list[tuple[int, float, str | None, bool]], by_prefix: bool) -> None:
    placement, loads = Placement(by_prefix=by_prefix), dict(IDLE)
    for seed, blocks, key, ends in asked:
        chosen = placement.choose(loads, asking(words(seed, blocks), key))
        before = dict(loads)
        loads[chosen] += 1
        assert loads[chosen] <= SHARE * sum(loads.values()) / len(loads) + SLACK + 1
        if not by_prefix:
            assert before[chosen] == min(before.values())
        if ends:
            loads[chosen] -= 1


def test_a_conversation_stays_where_it_is_and_the_work_is_spread() -> None:
    """Whatever instructions all of them begin with, and whichever front door is asked."""
    doors = [Placement() for _ in range(3)]
    shared = words(0, 6)
    prompts = [shared + words(seed, 1.5) for seed in range(1, 41)]
    for door in doors:  # each has seen a few of them, and knows what is nobody's own
        for prompt in prompts[:MANY]:
            door.choose(IDLE, asking(prompt))
    at = [doors[0].choose(IDLE, asking(prompt)) for prompt in prompts]
    assert set(at) == set(HOSTS)
    chance = random.Random(1)
    for turn in range(2, 9):
        prompts = [prompt + words(100 * turn, 0.7) for prompt in prompts]
        assert [chance.choice(doors).choose(IDLE, asking(prompt)) for prompt in prompts] == at


def test_a_document_that_is_asked_about_a_few_times_stays_at_one_host() -> None:
    placement, document = Placement(), words(0, 6)
    at = [placement.choose(IDLE, asking(document + words(seed, 1.5))) for seed in range(1, MANY)]
    assert len(set(at)) == 1


def test_who_has_too_much_to_do_is_passed_over_in_an_order_that_holds() -> None:
    order = []
    left = dict(IDLE)
    while left:
        order.append(Placement().choose(left, asking([], "one conversation")))
        del left[order[-1]]
    for number, host in enumerate(order):
        loads = {one: 100 if one in order[:number] else 0 for one in HOSTS}
        assert Placement().choose(loads, asking(words(number, 5), "one conversation")) == host


def test_what_cannot_be_shared_is_no_conversations_own() -> None:
    """With another salt the same words are others' instructions."""
    placement, shared = Placement(), words(0, 3)
    for seed in range(2 * MANY):
        placement.choose(IDLE, asking(shared + words(seed, 1), salt="theirs"))
    at = {placement.choose(IDLE, asking(shared + words(seed, 1))) for seed in range(MANY - 1)}
    assert len(at) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN", 8)
    placement = Placement()
    for seed in range(20):
        placement.choose(IDLE, asking(words(seed, 3)))
    assert len(placement._known) == 8


def test_front_doors_that_know_nothing_of_each_other_do_not_all_go_to_the_first() -> None:
    loads = {str(number): 0 for number in range(10)}
    request = EngineRequest("r", [1], SamplingParams(max_tokens=1))
    assert len({Placement(by_prefix=False).choose(loads, request) for _ in range(100)}) > 1
