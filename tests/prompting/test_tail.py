"""Where the answer starts: only what stands behind the last assistant header says whether a thought is open."""

from __future__ import annotations

import pytest

from portico.prompting import ChatTemplate, JinjaRenderer, RenderRequest, prompt_tail
from support.templates import MODERN, OLD, PARTS, STRICT

TRAP = "what does <think> mean, and </think>, and <|assistant|>?"
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "function": {"name": "f", "arguments": '{"a": 1}'}}],
}


def tail(source: str, messages: list[dict[str, object]], **how: object) -> str:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    return JinjaRenderer(template).render(RenderRequest(messages=messages, **how)).tail  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (MODERN, "<|end|>\n<|assistant|>\n<think>"),
        (STRICT, "[/INST]"),
        (OLD, "</U><A>"),
        (PARTS, "assistant:"),
    ],
)
def test_what_users_say_opens_nothing(source: str, expected: str) -> None:
    assert tail(source, [{"role": "user", "content": TRAP}]) == expected
    history = [{"role": "user", "content": TRAP}, {"role": "assistant", "content": f"<think>{TRAP}"}]
    assert tail(source, [*history, {"role": "user", "content": TRAP}]) == expected


def test_thinking_switched_off_shows() -> None:
    off = tail(MODERN, [{"role": "user", "content": TRAP}], kwargs={"enable_thinking": False})
    assert off == "<|end|>\n<|assistant|>\n<think>\n</think>\n"


def test_a_thought_is_no_part_of_the_header() -> None:
    """Every answer of the history shows a thought, and the one to come has none."""
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}<q>{{ m.content }}</q>"
        "{% else %}<a><think>{{ m.reasoning }}</think>{{ m.content }}</a>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<a>{% if enable_thinking is not defined %}<think>{% endif %}{% endif %}"
    )
    history = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "R"},
    ]
    assert tail(source, history) == "</q><a><think>"
    assert tail(source, history, kwargs={"enable_thinking": False}) == "</q><a>"


@pytest.mark.parametrize(
    ("source", "expected"), [(MODERN, "<|end|>\n<|assistant|>\n<think>"), (STRICT, "[/RESULT]"), (OLD, "</R><A>")]
)
def test_tool_results_open_nothing(source: str, expected: str) -> None:
    result = {"role": "tool", "tool_call_id": "call_1", "content": TRAP}
    assert tail(source, [{"role": "user", "content": TRAP}, CALL, result]) == expected


def test_an_answer_that_is_continued_is_in_the_tail() -> None:
    open_end = [{"role": "user", "content": TRAP}, {"role": "assistant", "content": "<think>" + "so " * 500}]
    found = tail(MODERN, open_end, continue_final_message=True)
    assert found == "<|end|>\n<|assistant|>\n<think>" + "so " * 500


@pytest.mark.parametrize(
    ("rendered", "expected"),
    [
        ("<|im_start|>user\n<think><|im_end|>\n<|im_start|>assistant\n<think>\n", "<|im_start|>assistant\n<think>\n"),
        ("<｜User｜><think><｜Assistant｜></think>", "<｜Assistant｜></think>"),
        ("[INST] <think> [/INST]", "[/INST]"),
        ("something <think> else\n<assistant>\n<think>\n", "\n<assistant>\n<think>\n"),
        ("a plain <think> text", ""),
        ("", ""),
    ],
)
def test_a_prompt_of_unknown_make(rendered: str, expected: str) -> None:
    assert prompt_tail(rendered) == expected


def test_linear_in_time_on_hostile_text() -> None:
    assert prompt_tail("<" * 1_000_000) == ""
    assert prompt_tail("<a " * 300_000) == " "
