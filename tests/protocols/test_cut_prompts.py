"""Prompts and inputs that clients want cut: which end goes, what stays around, and that their length is no reason to
refuse them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from portico.errors import ContextLengthError
from portico.prompting import ChatTemplate, Prompter
from portico.protocols.openai.embeddings import EmbeddingRequest, check_lengths
from support.generation import TEMPLATE, tiny_tokenizer


@pytest.mark.parametrize(
    ("limit", "side", "kept"),
    [
        (5, None, [101, 1, 2, 3, 102]),
        (5, "right", [101, 1, 2, 3, 102]),
        (5, "left", [101, 4, 5, 6, 102]),
        (3, "left", [101, 6, 102]),
        (2, "left", [6, 102]),
        (1, "right", [101]),
        (8, "left", [101, 1, 2, 3, 4, 5, 6, 102]),
        (-1, "left", [101, 2, 3, 4, 5, 6, 102]),
    ],
)
def test_inputs_keep_what_stands_around_them(limit: int, side: str | None, kept: list[int]) -> None:
    special = SimpleNamespace(prefix_ids=(101,), suffix_ids=(102,))
    context = 7 if limit == -1 else 10
    model: Any = SimpleNamespace(tokenizer=SimpleNamespace(special=special), context_length=context)
    request = EmbeddingRequest(input="x", truncate_prompt_tokens=limit, truncation_side=side)
    assert check_lengths(request, [[101, 1, 2, 3, 4, 5, 6, 102]], model) == [kept]


def test_what_will_be_cut_may_be_of_any_length() -> None:
    tokenizer = tiny_tokenizer()
    prompter = Prompter(tokenizer, ChatTemplate(TEMPLATE, tokenizer.special_tokens), context_length=4)
    text = "x" * 10_000
    messages = [{"role": "user", "content": text}]
    with pytest.raises(ContextLengthError):
        prompter.encode(text)
    with pytest.raises(ContextLengthError):
        prompter.render_chat(messages)
    assert len(prompter.encode(text, to_be_cut=True).token_ids) == 10_000
    assert len(prompter.cut(prompter.render_chat(messages, to_be_cut=True), 3).token_ids) == 3
