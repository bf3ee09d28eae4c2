"""Chat templates against the reference: every rendering of the corpus, byte for byte, and what becomes of the rest.

The reference is transformers with its clock frozen. The first test gives ``ChatTemplate`` what the reference was given;
the second sends the same conversations through the whole prompter, which may only do better.
"""

from __future__ import annotations

import datetime
import gzip
import json
import tarfile
from collections import Counter
from functools import cache, lru_cache
from typing import Any

import pytest

from portico.errors import BadRequestError
from portico.prompting import ChatTemplate, JinjaRenderer, RenderRequest
from support.shared import shared_path

# Conversations the reference cannot render and we can: (template, conversations) -> why
BEYOND_THE_REFERENCE = {
    ("llamacpp__Kimi-K2-Instruct.jinja", "c05"): "appends to a list that the template itself wrote",
    ("llamacpp__Kimi-K2-Instruct.jinja", "c06"): "appends to a list that the template itself wrote",
    ("llamacpp__Kimi-K2-Instruct.jinja", "c16"): "appends to a list that the template itself wrote",
    ("llamacpp__deepseek-ai-DeepSeek-V3.2.jinja", "c06"): "uses the filter from_json",
    ("llamacpp__deepseek-ai-DeepSeek-V4-Flash-0731.jinja", "c06"): "uses the filter from_json",
    ("vllm__tool_chat_template_functiongemma.jinja", "c06"): "uses the filter fromjson",
}

# Where the prompter shows a template something else than the reference did: what the reference lost, or printed raw.
BETTER_CONVERSATIONS = {
    "c06": "arguments that are JSON text become objects where the template wants objects; null content is text",
    "c07": "text parts become one text where the template would print a Python list",
    "c08": "the same with placeholders; an image_url part is an image",
    "c09": "a developer message is a system message for models that know no developer",
}
BETTER_TEMPLATES = {
    "calls are shown only beside null content": [
        "tokcfg__DeepSeek-R1-Distill-Qwen-32B.jinja",
        "tokcfg__deepseek_v3.jinja",
        "llamacpp__deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja",
    ],
    "system messages are left out, so their text opens the first question": [
        "gguf__ggml-vocab-phi-3.jinja",
        "vllm__template_blip2.jinja",
        "vllm__tool_chat_template_glm4.jinja",
    ],
    "content is read as parts only, so that texts vanish": [
        "trl__idefics3.jinja",
        "trl__idefics3_training.jinja",
        "trl__smolvlm.jinja",
        "trl__smolvlm_training.jinja",
        "trl__llava_next.jinja",
        "trl__llava_next_training.jinja",
        "vllm__nemotron_embed_vl.jinja",
        "vllm__vlm2vec_phi3v.jinja",
        "vllm__vlm2vec_qwen2vl.jinja",
    ],
    "earlier thoughts are parts of the content": ["llamacpp__mistralai-Ministral-3-14B-Reasoning-2512.jinja"],
}
BETTER = {name for names in BETTER_TEMPLATES.values() for name in names}


def frozen() -> datetime.datetime:
    return datetime.datetime(2026, 1, 2, 3, 4, 5)


@lru_cache(maxsize=1)
def sources() -> dict[str, str]:
    with tarfile.open(shared_path("corpus/chat_templates.tar.xz")) as archive:
        files = [(member.name.rpartition("/")[2], archive.extractfile(member)) for member in archive if member.isfile()]
        return {name: file.read().decode() for name, file in files if file is not None}


@lru_cache(maxsize=1)
def rows() -> list[dict[str, Any]]:
    with gzip.open(shared_path("corpus/golden_renderings.jsonl.gz"), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@cache
def template(name: str, special_tokens: str) -> ChatTemplate:
    return ChatTemplate(sources()[name], json.loads(special_tokens), clock=frozen)


def template_of(row: dict[str, Any]) -> ChatTemplate:
    return template(row["template"], json.dumps(row["special_tokens"]))


def test_every_rendering_byte_for_byte() -> None:
    wrong, rendered, beyond = [], 0, set()
    for row in rows():
        key = (row["template"], row["conversation_id"][:3])
        try:
            text: str | None = template_of(row).render(row["messages"], row["tools"], **row["kwargs"])
        except BadRequestError:
            text = None
        if "rendered" in row:
            rendered += 1
            if text != row["rendered"]:
                wrong.append((key, text))
        elif text is not None:
            beyond.add(key)
    assert rendered > 2000
    assert not wrong, wrong[:3]
    assert beyond == set(BEYOND_THE_REFERENCE)


@pytest.mark.slow
def test_the_prompter_loses_nothing_and_changes_only_what_is_named() -> None:
    outcomes: Counter[str] = Counter()
    longest = 0
    for row in rows():
        key, conversation = row["template"], row["conversation_id"][:3]
        kwargs = dict(row["kwargs"])
        request = RenderRequest(
            messages=row["messages"],
            tools=row["tools"],
            add_generation_prompt=kwargs.pop("add_generation_prompt", None),
            continue_final_message=kwargs.pop("continue_final_message", False),
            kwargs=kwargs,
            modalities=frozenset({"image"}),
        )
        try:
            text: str | None = JinjaRenderer(template_of(row)).render(request).text
        except BadRequestError as error:
            text, longest = None, max(longest, len(error.message.encode()))
        if "rendered" not in row:
            outcomes["refused by both" if text is None else "saved"] += 1
            continue
        assert text is not None, f"{key} {conversation} was lost"
        if text != row["rendered"]:
            assert conversation in BETTER_CONVERSATIONS or key in BETTER, f"{key} {conversation} changed"
            outcomes["changed"] += 1
        else:
            outcomes["same"] += 1
    assert outcomes["same"] > 1900
    assert longest < 2048, "an error body may not be longer"
    assert outcomes["saved"] > 300, outcomes


def test_the_tail_starts_at_the_last_assistant_header() -> None:
    """Nothing that a user or a tool said is in the tail, and generating goes on right behind it."""
    for row in rows():
        if row["conversation_id"][:3] not in ("c01", "c03", "c05") or "rendered" not in row:
            continue
        request = RenderRequest(messages=row["messages"], tools=row["tools"])
        rendered = JinjaRenderer(template_of(row)).render(request)
        assert rendered.text.endswith(rendered.tail)
        assert row["messages"][-1]["content"] not in rendered.tail, (row["template"], rendered.tail)
