"""Stop strings: whatever the cut, the same text and the same match; held back only while it may become one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.decoding import StopStrings
from support.effort import examples
from support.work import growth


def reference(text: str, stops: list[str]) -> tuple[str, str | None]:
    """By definition: the first position at which any stop ends; the longest of those that end there."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            stop = max(ending, key=len)
            return text[: end - len(stop)], stop
    return text, None


TEXT = st.text("ab🚀", max_size=30)
STOPS = st.lists(st.text("ab🚀", min_size=1, max_size=4), min_size=1, max_size=5)


@settings(max_examples=examples(240))
@given(TEXT, STOPS, st.lists(st.integers(0, 30), max_size=6), st.booleans())
def test_any_cut_gives_the_definition(text: str, stops: list[str], cuts: list[int], include: bool) -> None:
    watch = StopStrings(stops, include)
    borders = [0, *sorted(cuts), len(text)]
    shown, fed = "", ""
    matched = None
    for start, end in pairwise(borders):
        piece = text[start:end]
        fed += piece
        out, matched = watch.feed(piece)
        shown += out
        if matched is None:
            held = fed[len(shown) :]
            assert shown + held == fed
            assert not held or any(stop.startswith(held) for stop in stops)  # a real beginning
            longer = [k for k in range(len(held) + 1, len(fed) + 1) if any(s.startswith(fed[-k:]) for s in stops)]
            assert not longer  # and nothing shown that might have become one
    if matched is None:
        shown += watch.close()
    expected, stop = reference(text, stops)
    assert matched == stop
    assert shown == (expected + stop if include and stop else expected)


def test_after_close_a_new_text_begins() -> None:
    watch = StopStrings(["END"])
    assert watch.feed("a EN") == ("a ", None)
    assert watch.close() == "EN"
    assert watch.feed("D") == ("D", None)


def test_empty_stops_are_refused() -> None:
    for stops in ([], [""], ["a", ""]):
        with pytest.raises(ValueError, match="empty"):
            StopStrings(stops)


def test_linear_in_hostile_text() -> None:
    def work(length: int) -> None:
        watch = StopStrings(["a" * 500 + "b", "a" * 499 + "c"])
        for _ in range(length):
            watch.feed("a" * 100)

    assert growth(work, 400) < 3


def test_the_stop_is_not_shown_unless_it_is_wanted() -> None:
    assert StopStrings(["b"]).feed("abc") == ("a", "b")
    assert StopStrings(["b"], include=True).feed("abc") == ("ab", "b")
