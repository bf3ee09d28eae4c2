"""A thinking budget as clients see it, on a real model whose template opens a thought."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from portico.prompting import Tokenizer, load_tokenizer
from support.server import RunningServer, running_server

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
CLOSE = "\n</think>\n\n"
QUESTION: Any = [{"role": "user", "content": "Tell me how to bake bread, step by step."}]


@pytest.fixture(scope="module")
def server(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    template = tmp_path_factory.mktemp("template") / "thinking.jinja"
    template.write_text(TEMPLATE)
    with running_server(
        "smollm2", "--chat-template", template, "--reasoning-parser", "deepseek_r1", "--log-level", "warning"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
    return load_tokenizer(smollm2_path)


def ask(client: OpenAI, budget: int | None, **fields: Any) -> Any:
    extra = {"return_token_ids": True, "ignore_eos": True, "thinking_token_budget": budget}
    return client.chat.completions.create(
        model="smollm2", messages=QUESTION, **{"max_tokens": 48, "temperature": 0, **fields}, extra_body=extra
    )


@pytest.mark.parametrize("budget", [0, 1, 6, 25])
def test_the_thought_ends_and_the_answer_goes_on(client: OpenAI, tokenizer: Tokenizer, budget: int) -> None:
    close = tokenizer.encode(CLOSE, add_special_tokens=False)
    choice = ask(client, budget).choices[0]
    ids = choice.model_extra["token_ids"]
    assert ids[budget : budget + len(close)] == close
    assert len(ids) == 48
    thought, answer = choice.message.model_extra.get("reasoning", ""), choice.message.content
    assert thought == tokenizer.decode(ids[:budget]).strip()
    assert answer == tokenizer.decode(ids[budget + len(close) :]).lstrip()
    assert answer
    assert "think>" not in thought + answer


def test_without_a_budget_it_thinks_on(client: OpenAI) -> None:
    for none in (None, -1, 1000):
        choice = ask(client, none).choices[0]
        assert len(choice.message.model_extra["reasoning"]) > 50
        assert not choice.message.content


ALWAYS = {"logit_bias": {"1000": 100}}  # a word that beats every other, so that two answers are the same


@pytest.mark.parametrize("rules", [ALWAYS, {"temperature": 0.9, "seed": 5, **ALWAYS}, {"stop": ["a", "e"], **ALWAYS}])
def test_streaming_tells_the_same(client: OpenAI, tokenizer: Tokenizer, rules: dict[str, Any]) -> None:
    budget = 10
    whole = ask(client, budget, **rules)
    chunks = list(ask(client, budget, **rules, stream=True, stream_options={"include_usage": True}))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    message = whole.choices[0].message
    assert "".join(delta.content or "" for delta in deltas) == message.content
    assert "".join((delta.model_extra or {}).get("reasoning") or "" for delta in deltas) == message.reasoning
    assert chunks[-1].usage == whole.usage
    marker = tokenizer.encode(CLOSE.rstrip(), add_special_tokens=False)
    assert whole.usage.completion_tokens_details.reasoning_tokens == budget + len(marker)


@pytest.mark.parametrize("budget", [0, 8])
def test_a_schema_holds_behind_the_thought(client: OpenAI, budget: int) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Oslo"]}, "big": {"type": "boolean"}},
        "required": ["city", "big"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    choice = ask(client, budget, response_format=wanted, max_tokens=120).choices[0]
    assert set(json.loads(choice.message.content)) == {"city", "big"}
    assert bool((choice.message.model_extra or {}).get("reasoning")) == bool(budget)


def test_a_forced_call_comes_behind_the_thought(client: OpenAI) -> None:
    parameters = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    message = ask(client, 8, tools=[tool], tool_choice="required", parallel_tool_calls=False, max_tokens=120)
    message = message.choices[0].message
    assert json.loads(message.tool_calls[0].function.arguments)["n"] in (1, 2)
    assert message.reasoning


def test_a_budget_that_is_no_budget(client: OpenAI, server: RunningServer) -> None:
    for bad in (-2, "many", 1.5):
        body = {"messages": QUESTION, "thinking_token_budget": bad}
        answer = httpx.post(server.base_url + "/chat/completions", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "thinking_token_budget"
