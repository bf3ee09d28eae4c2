"""Recorded model outputs of every family, each under many cuts; with what must come out (shared test material).

Set ``PORTICO_EXHAUSTIVE=1`` for every two-way cut, every prefix and 200 random cuts of each case; by default a sample.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from portico.parsing.folding import fold
from support.cases import all_cuts, differences, load, read
from support.effort import EXHAUSTIVE
from support.streams import cut_every

CASES = load("parser_cases")
# What contradicts law 8, which came later: arguments that are no JSON, handed on as they are.
SUPERSEDED = {"hermes-onebad"}


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    events = read(case, [case["output"]])
    found = fold(events)
    if case["id"] in SUPERSEDED:
        return
    problems = [list(differences(case, wanted, found)) for wanted in (case["expect"], *case.get("alt_expect", ()))]
    assert [] in problems, problems
    if found.tool_calls or case["finish_reason"] != "tool_calls":
        assert found.finish_reason == case["finish_reason"]
    if "id_pattern" in case:
        return
    for pieces in all_cuts(case["output"], case["id"]):
        assert read(case, pieces) == events, pieces


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_every_prefix_is_legal(case: dict[str, Any]) -> None:
    text = case["output"]
    case = {key: value for key, value in case.items() if key != "id_pattern"}
    ends = range(len(text)) if EXHAUSTIVE else random.Random(case["id"]).sample(range(len(text)), min(4, len(text)))
    for end in ends:
        for finish in ("stop", "length"):
            whole = read(case, [text[:end]], finish)
            assert whole == read(case, cut_every(text[:end], 3), finish), end
            if case.get("policy") != "malformed":
                for call in fold(whole).tool_calls:
                    if call.complete:
                        json.loads(call.arguments)
