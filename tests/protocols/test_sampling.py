"""How to draw: what a request says holds, what it leaves open the operator says, and what neither says is neutral."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from portico.events import SamplingParams
from portico.protocols.sampling import HOTTEST, defaulted, nucleus, temperature
from support.generation import tiny_model

OPERATOR: dict[str, Any] = {"temperature": 0.3, "top_p": 0.7, "top_k": 11, "min_p": 0.2, "max_tokens": 5}
SAID = SamplingParams(temperature=1.5, top_p=0.9, top_k=3, min_p=0.1, max_tokens=77)


def test_neutral_where_nothing_is_said() -> None:
    assert temperature(None) == 1.0
    assert nucleus(None, None) == (1.0, 0)


@pytest.mark.parametrize("wanted", [0.0, 0.5, 1.0, 2.0, HOTTEST])
def test_a_temperature_stays(wanted: float) -> None:
    assert temperature(wanted) == wanted
    assert temperature(wanted + HOTTEST) == HOTTEST


@pytest.mark.parametrize("top_p", [0.1, 0.999, 1.0])
@pytest.mark.parametrize(("top_k", "kept"), [(None, 0), (-1, 0), (0, 0), (1, 1), (40, 40)])
def test_both_bounds_stay(top_p: float, top_k: int | None, kept: int) -> None:
    assert nucleus(top_p, top_k) == (top_p, kept)
    assert nucleus(None, top_k) == (1.0, kept)
    assert nucleus(0, top_k) == (1.0, 1), "nothing but the most likely token"


@pytest.mark.parametrize("said", [(), *((name,) for name in OPERATOR), tuple(OPERATOR)])
def test_the_operator_says_what_the_request_does_not(said: tuple[str, ...]) -> None:
    request = SimpleNamespace(**{name: getattr(SAID, name) if name in said else None for name in OPERATOR})
    found = defaulted(SAID, request, tiny_model(sampling=OPERATOR))
    for name, value in OPERATOR.items():
        theirs = name == "max_tokens" or name in said  # how long an answer may be is decided elsewhere
        assert getattr(found, name) == (getattr(SAID, name) if theirs else value)
    assert defaulted(SAID, SimpleNamespace(), tiny_model(sampling={})) == SAID
    assert defaulted(SAID, SimpleNamespace(), tiny_model(sampling=OPERATOR)).top_k == 11, "it has no such field"
