"""The vLLM engine's words, without vLLM: what its core is asked, and what its outputs are read as."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from portico.engines.vllm import VllmEngine
from portico.engines.vllm.messages import engine_output, sampling_arguments
from portico.errors import EngineError, NotSupportedError
from portico.events import Constraint, EngineRequest, SamplingParams, ThoughtBudget, TokenLogprob


def asking(constraint: Constraint | None = None, **rules: Any) -> EngineRequest:
    return EngineRequest("r", [1], SamplingParams(**{"max_tokens": 5, **rules}), constraint)


def said(ids: list[int], **fields: Any) -> Any:
    nothing = dict.fromkeys(
        ("new_logprobs", "new_prompt_logprobs_tensors", "finish_reason", "stop_reason", "prefill_stats")
    )
    return SimpleNamespace(request_id="n", new_token_ids=ids, **{**nothing, **fields})


def test_rules_are_passed_on_and_neutral_ones_switched_off() -> None:
    arguments = sampling_arguments(asking(seed=3, stop_token_ids=frozenset({9, 8}), logit_bias={4: 1.0}))
    assert (arguments["seed"], arguments["stop_token_ids"], arguments["logit_bias"]) == (3, [8, 9], {4: 1.0})
    assert sampling_arguments(asking())["logit_bias"] is None
    assert not {"structured_outputs", "thinking_token_budget", "logprob_token_ids"} & set(arguments)
    assert sampling_arguments(asking(logprobs=0, logprob_ids=(4, 2)))["logprob_token_ids"] == [4, 2]
    thought = ThoughtBudget(7, (1,), ("<think>",), ("</think>",))
    assert sampling_arguments(asking(thought=thought))["thinking_token_budget"] == 7


def test_constraints_go_as_structural_tags_or_not_at_all() -> None:
    tag = {"type": "structural_tag", "format": {"type": "regex", "pattern": "a"}}
    given = sampling_arguments(asking(Constraint("start: /a/", tag)))["structured_outputs"]["structural_tag"]
    assert json.loads(given) == tag
    for request in (asking(Constraint("start: /a/")), asking(bad_words=((1,),))):
        with pytest.raises(NotSupportedError):
            sampling_arguments(request)


@pytest.mark.parametrize(
    ("ids", "reason", "expected", "stop"),
    [([5, 2], "stop", [5], 2), ([5, 2], "length", [5, 2], None), ([5], "stop", [5], None), ([2], None, [2], None)],
)
def test_the_token_that_ended_an_answer_is_told_apart(
    ids: list[int], reason: str | None, expected: list[int], stop: int | None
) -> None:
    found = engine_output(said(ids, finish_reason=reason), "r", asking(), {2})
    assert (found.token_ids, found.stop_token, found.finish_reason) == (expected, stop, reason)


def test_logprobs_are_the_sampled_tokens_then_the_most_likely() -> None:
    rows = SimpleNamespace(logprob_token_ids=[[5, 7, 5], [2, 2, 9]], logprobs=[[-1.5, -0.5, -1.5], [-0.1, -0.1, -3.0]])
    found = engine_output(said([5, 2], new_logprobs=rows, finish_reason="stop"), "r", asking(logprobs=2), {2})
    assert found.logprobs == [TokenLogprob(5, -1.5, ((7, -0.5), (5, -1.5)))]
    assert engine_output(said([5], new_logprobs=rows), "r", asking(), {2}).logprobs is None


def test_logprobs_of_named_tokens_are_found_wherever_they_stand() -> None:
    rows = SimpleNamespace(logprob_token_ids=[[5, 9, 7, 5, -1]], logprobs=[[-1.5, -3.0, -0.5, -1.5, 0.0]])
    request = asking(logprobs=0, logprob_ids=(7, 5, 9))
    found = engine_output(said([5], new_logprobs=rows, finish_reason="length"), "r", request, {2})
    assert found.logprobs == [TokenLogprob(5, -1.5, ((7, -0.5), (5, -1.5), (9, -3.0)))]


async def test_without_vllm_starting_says_what_to_install() -> None:
    try:
        import vllm  # noqa: F401
    except ImportError:
        with pytest.raises(EngineError, match=r"pip install .*\[vllm\]"):
            await VllmEngine("/nowhere", name="m").start()
    else:
        pytest.skip("vLLM is installed here")
