"""What a conversation's history becomes: nothing is dropped in silence, and a prompt begins with the one before."""

from __future__ import annotations

import datetime
import tarfile
from collections import defaultdict
from functools import lru_cache
from typing import Any

import pytest

from portico.errors import BadRequestError
from portico.prompting import ChatTemplate, JinjaRenderer, RenderRequest
from portico.prompting.left_out import left_out
from portico.prompting.renderers.harmony import HarmonyRenderer
from support.shared import shared_path
from support.templates import MODERN, OLD, PARTS, STRICT

QUESTION = {"role": "user", "content": "What is it?"}
ANSWER = {"role": "assistant", "content": "It is that."}
NEXT = {"role": "user", "content": "And now?"}

# Templates whose next prompt does not begin with this one, and why; found by looking at where the two part.
THOUGHT = "the thought that is opened for the model is left out of history, or opened otherwise there"
BLANKS = "white space before the answer differs"
OTHERWISE = {"mistralrs__mistral_small_tool_call.jinja": "the default system prompt is written for one question only"}
SHOWS_NOTHING = {  # they rank, or read audio
    "vllm__qwen3_reranker.jinja",
    "vllm__qwen3_vl_reranker.jinja",
    "vllm__template_kimi_audio.jinja",
    "vllm__zerank2.jinja",
}


@lru_cache(maxsize=1)
def sources() -> dict[str, str]:
    with tarfile.open(shared_path("corpus/chat_templates.tar.xz")) as archive:
        files = [(member.name.rpartition("/")[2], archive.extractfile(member)) for member in archive if member.isfile()]
        return {name: file.read().decode() for name, file in files if file is not None}


def why_not(source: str) -> str | None:
    """Why the prompt after an answer does not begin with the prompt for it; None where it does.

    What the model itself writes in front of an answer (a channel, a space) may stand between the two.
    """
    template = ChatTemplate(
        source, {"bos_token": "<s>", "eos_token": "</s>"}, clock=lambda: datetime.datetime(2026, 1, 2)
    )
    renderer = JinjaRenderer(template)
    now = renderer.render(RenderRequest(messages=[QUESTION])).text
    then = renderer.render(RenderRequest(messages=[QUESTION, ANSWER, NEXT])).text
    if "What is it?" not in now or "It is that." not in then:
        return "shows nothing"
    if then.startswith(now):
        return None
    opening = now[now.rindex("What is it?") :]
    history = then[then.rindex("What is it?") : then.index("It is that.")]
    if now[: now.rindex("What is it?")] != then[: then.rindex("What is it?")]:
        return "the beginning differs"
    if "".join(opening.split()) == "".join(history.split()):
        return BLANKS
    markers = ("think", "channel>thought", "reasoning")
    return THOUGHT if any(word in opening.lower() for word in markers) else "the header differs"


@pytest.mark.slow
def test_the_next_prompt_begins_with_this_one() -> None:
    reasons: dict[str | None, list[str]] = defaultdict(list)
    for name, source in sources().items():
        try:
            reasons[why_not(source)].append(name)
        except BadRequestError:
            reasons["refused"].append(name)
    assert len(reasons.pop(None)) > 110
    assert len(reasons.pop("refused")) < 15
    assert len(reasons.pop(THOUGHT)) < 30
    assert len(reasons.pop(BLANKS)) < 25
    assert set(reasons.pop("shows nothing")) == SHOWS_NOTHING
    assert {name for names in reasons.values() for name in names} == set(OTHERWISE)


@pytest.mark.parametrize("source", [STRICT, OLD, PARTS])
def test_so_do_our_own(source: str) -> None:
    assert why_not(source) is None


def test_and_harmonys_with_all_that_was_said() -> None:
    """Thought, text and calls of a turn: analysis, commentary and calls of the next prompt, in this order."""
    renderer = HarmonyRenderer(clock=lambda: datetime.datetime(2026, 1, 2))
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
    turn = {"role": "assistant", "reasoning_content": "Hm.", "content": "Let me look.", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "found"}
    now = renderer.render(RenderRequest(messages=[QUESTION])).text
    then = renderer.render(RenderRequest(messages=[QUESTION, turn, result])).text
    assert then.startswith(
        now + "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>Let me look."
        "<|end|><|start|>assistant to=functions.look<|channel|>commentary json<|message|>"
    )
    assert not left_out([QUESTION, turn, result], then)


# -- what is left out is told -----------------------------------------------------------------------------------------


def rendered(source: str, messages: list[dict[str, Any]]) -> list[str]:
    text = (
        JinjaRenderer(ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}))
        .render(RenderRequest(messages=messages))
        .text
    )
    return left_out(messages, text)


def test_a_thought_that_a_template_drops_is_named() -> None:
    turn = {**ANSWER, "reasoning_content": "Hm, well."}
    assert rendered(MODERN, [QUESTION, turn, NEXT]) == []
    assert rendered(PARTS, [QUESTION, turn, NEXT]) == ["messages[1].reasoning_content"]
    call = {"id": "a1b2c3d4e", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    both = {**ANSWER, "tool_calls": [call]}
    assert rendered(STRICT, [QUESTION, both, {"role": "tool", "tool_call_id": "a1b2c3d4e", "content": "R"}]) == [
        "messages[1].content"
    ]


@pytest.mark.parametrize(
    ("turn", "path"),
    [
        ({"reasoning": "Hm, well."}, "reasoning"),
        ({"thinking": "Hm, well."}, "thinking"),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "Hm, well."}]}, "reasoning_details"),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm, well."}]}, "reasoning_details"),
        ({"content": [{"type": "thinking", "thinking": "Hm, well."}, {"type": "text", "text": "So."}]}, "content[0]"),
        ({"content": [{"type": "refusal", "refusal": "Never."}]}, "content[0].refusal"),
    ],
)
def test_in_whatever_words_it_was_given(turn: dict[str, Any], path: str) -> None:
    messages = [QUESTION, {**ANSWER, **turn}]
    assert f"messages[1].{path}" in left_out(messages, "What is it? It is that. So.")
    assert left_out(messages, "What is it? Hm, well. Never. It is that. So.") == []


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("  spaces \n", "a spaces b"),
        ('say "hi"\nthere', 'x "say \\"hi\\"\\nthere" y'),
        ("one\n  two", "one two"),
        ("<think>gone</think>\nkept", "x kept y"),
        ("", ""),
    ],
)
def test_what_is_written_otherwise_is_there(text: str, prompt: str) -> None:
    assert left_out([{"role": "user", "content": text}], prompt) == []


def test_what_is_no_conversation_is_not_judged() -> None:
    assert left_out(None, "x") == left_out([1, {"content": 3, "tool_calls": [None, {"function": 1}]}], "x") == []
    parts = [{"role": "user", "content": [{"type": "text", "text": "here"}, {"type": "text", "text": "gone"}]}]
    assert left_out(parts, "here") == ["messages[0].content[1].text"]
