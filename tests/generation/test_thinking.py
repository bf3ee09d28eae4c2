"""A budget reaches the engine with the markers of the model's own format, or is refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from portico.errors import NotSupportedError
from portico.events import ThoughtBudget
from portico.generation import thought_budget
from portico.generation.opening import answer_opening
from portico.prompting import Prompt
from portico.protocols.anthropic import messages
from portico.protocols.anthropic.schema import MessagesRequest
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.openai import chat
from portico.protocols.openai.schema import ChatRequest
from portico.protocols.validation import parse_fields
from support.generation import tiny_model, tiny_tokenizer

ABLE = frozenset({"generate", "logprobs", "thinking_budget", "constraints"})
OPENED = "<|assistant|><think>\n"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def asked(tail: str = "", **fields: Any) -> ThoughtBudget | None:
    """What the engine is told for a chat request with these fields."""
    model = fields.pop("model", tiny_model(capabilities=ABLE, reasoning_parser="qwen3", tool_parser="hermes"))
    request = parse_fields(ChatRequest, {"messages": [{"role": "user", "content": "Hi"}], **fields})
    return chat.generation(request, Prompt([1, 2], tail, tail), model, "r").engine_requests()[0].sampling.thought


def test_the_format_decides_what_ends_a_thought() -> None:
    found = asked(OPENED, thinking_token_budget=12)
    assert found is not None
    assert (found.tokens, found.open) == (12, True)
    assert tiny_tokenizer().decode(found.close, skip_special_tokens=False) == "\n</think>\n\n"
    assert (found.openers, found.closers) == (("<think>",), ("</think>",))
    behind = asked("<|assistant|>", thinking_token_budget=0)
    assert behind is not None
    assert not behind.open


def test_calls_end_a_thought_only_where_there_are_tools() -> None:
    assert asked(OPENED, thinking_token_budget=5, tools=TOOLS).closers == ("</think>", "<tool_call>")  # type: ignore[union-attr]
    assert asked(OPENED, thinking_token_budget=5, tools=TOOLS, tool_choice="none").closers == ("</think>",)  # type: ignore[union-attr]


@pytest.mark.parametrize("budget", [{}, {"thinking_token_budget": None}, {"thinking_token_budget": -1}])
def test_no_budget(budget: dict[str, Any]) -> None:
    assert asked(OPENED, **budget) is None


@pytest.mark.parametrize(
    ("lacking", "reason"),
    [
        ({"capabilities": frozenset({"generate"}), "reasoning_parser": "qwen3"}, "this engine cannot"),
        ({"capabilities": ABLE}, "--reasoning-parser"),
        ({"capabilities": ABLE, "reasoning_parser": "minimax_m2_append_think"}, "no marker"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_openais_api_and_a_wish_in_anthropics(
    lacking: dict[str, Any], reason: str
) -> None:
    model = tiny_model(**lacking)
    with pytest.raises(NotSupportedError, match=reason) as raised:
        asked(OPENED, model=model, thinking_token_budget=5)
    assert raised.value.param == "thinking_token_budget"
    assert anthropic(model) is None


def anthropic(model: Any) -> ThoughtBudget | None:
    request = parse_fields(
        MessagesRequest,
        {
            "model": "tiny",
            "max_tokens": 2000,
            "messages": [{"role": "user", "content": "Hi"}],
            "thinking": {"type": "enabled", "budget_tokens": 1500},
        },
    )
    known = messages.read_request(request, model, Signer(None))
    made = messages.generation(request, known, Prompt([1, 2], OPENED, OPENED), model, "r")
    return made.engine_requests()[0].sampling.thought


def test_anthropics_budget_is_kept_where_it_can_be() -> None:
    found = anthropic(tiny_model(capabilities=ABLE, reasoning_parser="qwen3"))
    assert found is not None
    assert (found.tokens, found.open) == (1500, True)


def test_what_stands_before_an_answers_first_token() -> None:
    thinks = tiny_model(tool_parser="hermes", reasoning_parser="qwen3")
    assert [answer_opening(thinks, tail) for tail in (OPENED, "<|assistant|>")] == ["\n</think>\n\n", ""]
    assert answer_opening(tiny_model(), OPENED) == ""


def test_checkpoint_suffixes_are_the_vocabularys() -> None:
    model = tiny_model(capabilities=ABLE, reasoning_parser="hy_v4")
    plain = thought_budget(model, 3, "")
    assert plain is not None
    assert (plain.openers, plain.closers) == (("<think>",), ("</think>",))

    class Suffixed:
        def __init__(self) -> None:
            self.added_tokens = {"<think:12ab>": 256, "</think:12ab>": 257, "<think>": 258}

        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return [self.added_tokens[text]]

    suffixed = thought_budget(tiny_model(capabilities=ABLE, reasoning_parser="hy_v4", tokenizer=Suffixed()), 3, "")
    assert suffixed is not None
    assert suffixed.close == (257,)
    assert suffixed.openers == ("<think:12ab>", "<think>")
