"""Law 8, whole arguments, over damaged answers of every family; ``PORTICO_EXHAUSTIVE=1`` goes on for 10,000 of each.

``python tests/support/mutants.py`` gives figures.
"""

from __future__ import annotations

import pytest

from support.effort import EXHAUSTIVE
from support.mutants import Mutant, mutants, violations
from support.streams import TOOL_PARSERS

COUNT = 10_000 if EXHAUSTIVE else 8


@pytest.mark.parametrize("inner", [False, True], ids=["framing", "headers and arguments"])
@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_no_damage_breaks_the_arguments(tool_parser: str, inner: bool) -> None:
    for mutant in mutants(tool_parser, COUNT, seed=1, inner=inner):
        assert violations(tool_parser, mutant) == [], mutant


def test_the_law_can_be_broken() -> None:
    calls = [{"name": "send_note", "arguments": {"text": "here"}}]
    empty = Mutant('<tool_call>{"name": "send_note", "arguments": {}}</tool_call>here', calls, "by hand")
    assert violations("hermes", empty) == ["send_note without its arguments"]
    lost = Mutant('<tool_call>{"name": "ping", "arguments": {}}</tool_call>here', calls, "by hand")
    assert violations("hermes", lost) == []  # what was written outside the call is content
    gone = Mutant('<think>here</think>{"name": "ping"}', calls, "by hand")
    assert violations("hermes", gone) == []
