"""What a page says of its thoughts is what its reader reads: a thought ended that way, anywhere, leaves no trace."""

from __future__ import annotations

import pytest

from portico.events import Content, Reasoning
from portico.parsing import OutputParser
from portico.parsing.messages import Messages
from portico.parsing.registry import program, reasoning_names

FAMILIES = [name for name in reasoning_names() if name != "hf" and program(None, name).thinking("") is not None]


def opened(name: str) -> str:
    """The end of a prompt that has opened a thought."""
    thought = program(None, name).thinking("")
    assert thought is not None
    return "<|start|>assistant" * name.startswith("openai") + thought.openers[0].replace("*", "") + "\n"


def test_nearly_every_family_can_end_a_thought() -> None:
    assert len(FAMILIES) > 35


@pytest.mark.parametrize("name", FAMILIES)
def test_the_prompt_tells_whether_a_thought_is_open(name: str) -> None:
    found = program(None, name).thinking(opened(name))
    assert found is not None
    assert found.open
    assert not program(None, name).thinking("").open  # type: ignore[union-attr]


@pytest.mark.parametrize("in_prompt", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_thought_ended_in_the_middle(name: str, in_prompt: bool) -> None:
    described = program(None, name)
    thought = described.thinking("")
    assert thought is not None
    header = described.reasoning.answer if isinstance(described.reasoning, Messages) else ""
    text = f"Let me thi{thought.close}{header}The answer."
    if not in_prompt:
        text = thought.openers[-1] + text
    for size in (1, 3, len(text)):
        parser = OutputParser(reasoning_parser=name, prompt_tail=opened(name) if in_prompt else "")
        pieces = [text[at : at + size].replace("*", "") for at in range(0, len(text), size)]
        events = [event for piece in pieces for event in parser.feed(piece)] + parser.close()
        assert "".join(e.text for e in events if isinstance(e, Reasoning)) == "Let me thi"
        assert "".join(e.text for e in events if isinstance(e, Content)) == "The answer."


def test_calls_end_a_thought_where_the_family_calls_from_inside() -> None:
    assert "<tool_call>" in program("hermes", "qwen3").thinking("").closers  # type: ignore[union-attr]
    assert "<tool_call>" not in program(None, "qwen3").thinking("").closers  # type: ignore[union-attr]
    shown = program(None, "minimax_m2_append_think")
    assert shown.thinking("<think>\n") is None, "a thought that is part of the answer"
