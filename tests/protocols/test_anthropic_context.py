"""What a request wants cleared out of its history: which results, inputs and thoughts go, and when."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.protocols.anthropic.context import NOTE, Edited, edited, is_known
from portico.protocols.anthropic.schema import ContextEdit
from support.effort import examples

USES, THINKING = "clear_tool_uses_20250919", "clear_thinking_20251015"


def edit(kind: str, messages: list[dict[str, Any]], tokens: int = 200_000, **fields: Any) -> Edited | None:
    before = copy.deepcopy(messages)
    found = edited(ContextEdit.model_validate({"type": kind, **fields}), messages, tokens)
    assert messages == before
    return found


def conversation(*names: str, thinks: bool = False) -> list[dict[str, Any]]:
    """A call of each name, with its result."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Go."}]
    for n, name in enumerate(names):
        thought = [{"type": "thinking", "thinking": f"t{n}", "signature": "s"}] if thinks else []
        use = {"type": "tool_use", "id": f"id{n}", "name": name, "input": {"n": n}}
        messages.append({"role": "assistant", "content": [*thought, use]})
        messages.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"id{n}", "content": "r"}]})
    return messages


def blocks(found: Edited | list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    messages = found.messages if isinstance(found, Edited) else found
    inside = [block for message in messages if isinstance(message["content"], list) for block in message["content"]]
    return [block for block in inside if block["type"] == kind]


def cleared(found: Edited | None) -> list[int]:
    """The places of the results that are gone."""
    assert found is not None
    return [n for n, block in enumerate(blocks(found, "tool_result")) if block["content"] == NOTE]


class TestToolUses:
    def test_all_but_the_last_three_by_default(self) -> None:
        assert cleared(edit(USES, conversation(*"abcdef"))) == [0, 1, 2]
        assert edit(USES, conversation(*"abc")) is None

    @pytest.mark.parametrize(
        ("tokens", "trigger", "goes"),
        [
            (99_999, None, False),
            (100_000, None, True),
            (500, {"type": "input_tokens", "value": 501}, False),
            (500, {"type": "input_tokens", "value": 500}, True),
            (0, {"type": "tool_uses", "value": 7}, False),
            (0, {"type": "tool_uses", "value": 6}, True),
        ],
    )
    def test_triggers(self, tokens: int, trigger: dict[str, Any] | None, goes: bool) -> None:
        assert (edit(USES, conversation(*"abcdef"), tokens, trigger=trigger) is not None) == goes

    def test_tools_that_are_kept(self) -> None:
        keep = {"type": "tool_uses", "value": 1}
        assert cleared(edit(USES, conversation(*"abab"), keep=keep, exclude_tools=["a"])) == [1]
        assert edit(USES, conversation(*"aaab"), keep=keep, exclude_tools=["a"]) is None

    @pytest.mark.parametrize(("inputs", "left"), [(None, 4), (False, 4), (True, 1), (["b"], 3)])
    def test_inputs(self, inputs: object, left: int) -> None:
        keep = {"type": "tool_uses", "value": 1}
        found = edit(USES, conversation(*"abab"), keep=keep, clear_tool_inputs=inputs)
        assert found is not None
        assert len([use for use in blocks(found, "tool_use") if use["input"]]) == left

    def test_what_is_told(self) -> None:
        found = edit(USES, conversation(*"abcde"), clear_at_least={"type": "input_tokens", "value": 100})
        assert found is not None
        assert found.told(300) == {"type": USES, "cleared_tool_uses": 2, "cleared_input_tokens": 300}
        assert (found.enough(99), found.enough(100)) == (False, True)

    def test_a_pending_call_is_not_counted(self) -> None:
        messages = conversation(*"abcd")[:-1]
        assert cleared(edit(USES, messages, keep={"type": "tool_uses", "value": 0})) == [0, 1, 2]


class TestThinking:
    @pytest.mark.parametrize(
        ("keep", "kept"),
        [
            (None, ["t2"]),
            ({"type": "thinking_turns", "value": 2}, ["t1", "t2"]),
            ({"type": "thinking_turns", "value": 0}, []),
        ],
    )
    def test_older_turns_go(self, keep: dict[str, Any] | None, kept: list[str]) -> None:
        found = edit(THINKING, conversation(*"abc", thinks=True), 0, keep=keep)
        assert found is not None
        assert [block["thinking"] for block in blocks(found, "thinking")] == kept
        assert found.told(7) == {"type": THINKING, "cleared_thinking_turns": 3 - len(kept), "cleared_input_tokens": 7}

    @pytest.mark.parametrize("keep", ["all", {"type": "all"}, {"type": "thinking_turns", "value": 3}])
    def test_nothing_to_do(self, keep: object) -> None:
        assert edit(THINKING, conversation(*"abc", thinks=True), keep=keep) is None

    def test_neighbours_are_one_turn(self) -> None:
        thought = [{"type": "thinking", "thinking": "t", "signature": "s"}]
        messages = [{"role": "assistant", "content": thought}, {"role": "assistant", "content": thought}]
        assert edit(THINKING, messages) is None


def test_other_edits_are_not_known() -> None:
    other = ContextEdit.model_validate({"type": "compact_20260112", "instructions": "short"})
    assert not is_known(other)
    assert edited(other, conversation(*"abcdef"), 1 << 20) is None


JUNK = st.recursive(
    st.none() | st.integers() | st.text(max_size=3), lambda one: st.lists(one, max_size=2), max_leaves=4
)
BLOCK = st.fixed_dictionaries({"type": st.sampled_from(["tool_use", "tool_result", "thinking", "text"])}) | JUNK


@settings(max_examples=examples(20))
@given(
    messages=st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant"]), "content": st.lists(BLOCK, max_size=3) | JUNK}
        ),
        max_size=4,
    ),
    kind=st.sampled_from([USES, THINKING]),
)
def test_whatever_the_messages_are(messages: list[dict[str, Any]], kind: str) -> None:
    """What cannot be read is passed on to who refuses it."""
    found = edit(kind, messages, keep=None, trigger={"type": "tool_uses", "value": 0})
    assert found is None or len(found.messages) == len(messages)
