"""Recorded outputs of models that drift, each under many cuts; with what must come out (shared test material)."""

from __future__ import annotations

from typing import Any

import pytest

from portico.parsing.folding import fold
from support.cases import all_cuts, differences, load, read

CASES = load("drift_cases")
# Two expect null for a value of text; two expect text to vanish, or to become a thought when it has gone out already.
REFUSED = {"types-66-step3p5", "types-66-hy_v3", "new-hcx14b", "new-spark25-thinking"}


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    events = read(case, [case["output"]])
    if case["id"] not in REFUSED:
        wanted = (case["expect"], *case.get("alt_expect", ()))
        problems = [list(differences(case, one, fold(events))) for one in wanted]
        assert [] in problems, problems
    for pieces in all_cuts(case["output"], case["id"]):
        assert read(case, pieces) == events, pieces
