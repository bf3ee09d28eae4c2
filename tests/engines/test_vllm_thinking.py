"""A thinking budget before a real vLLM that has been told the markers. How to run it: ``support/vllm.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.openai_client import client_of
from support.server import RunningServer
from support.vllm import needs_vllm, vllm_server

pytestmark = needs_vllm

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}"
)
MARKERS = '{"reasoning_start_str":"<think>","reasoning_end_str":"</think>"}'
LATE = 3  # tokens; vLLM schedules steps before it knows what the last one gave
QUESTION: Any = [{"role": "user", "content": "Tell me how to bake bread, step by step."}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    template = tmp_path_factory.mktemp("template") / "thinking.jinja"
    template.write_text(TEMPLATE)
    with vllm_server(
        *("--chat-template", str(template), "--reasoning-parser", "qwen3", "--log-level", "warning"),
        options=f"--reasoning-config '{MARKERS}'",
    ) as running:
        yield running


@pytest.mark.parametrize("budget", [0, 1, 12])
@pytest.mark.parametrize("constrained", [False, True])
def test_the_thought_ends_and_the_answer_goes_on(server: RunningServer, budget: int, constrained: bool) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Oslo"]}}, "required": ["city"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    with client_of(server) as client:
        answer = client.chat.completions.create(
            model="smollm2",
            messages=QUESTION,
            max_tokens=60,
            temperature=0,
            extra_body={"thinking_token_budget": budget, "return_token_ids": True, "ignore_eos": not constrained},
            **({"response_format": wanted} if constrained else {}),
        )
    message = answer.choices[0].message
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    thought = answer.usage.completion_tokens_details.reasoning_tokens - len(("</", "think", ">"))
    assert budget <= thought <= budget + LATE
    assert bool((message.model_extra or {}).get("reasoning")) == bool(budget)
    assert message.content
    assert "think>" not in message.content
    if constrained:
        assert json.loads(message.content)["city"] in ("Paris", "Oslo")
