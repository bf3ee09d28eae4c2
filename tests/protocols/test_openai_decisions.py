"""Decisions: what the model is shown, which tokens it may say, and what becomes of their logprobs."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Decision

from portico.errors import BadRequestError, EngineError
from portico.events import Content, Finish, TokenLogprob
from portico.generation import Delta, Generation, answer_opening
from portico.parsing import parse
from portico.parsing.registry import DECLARED, program, reasoning_names, tool_names
from portico.protocols.openai import decisions
from portico.protocols.openai.decisions import DecisionRequest
from portico.protocols.validation import parse_body
from support.effort import examples
from support.generation import tiny_model

ABLE = frozenset({"generate", "logprobs", "logprob_ids"})
PREDICATE = {"type": "predicate", "name": "late", "instructions": "It came late."}
CHOICE = {
    "type": "choice",
    "instructions": "Which team?",
    "choices": [{"value": "true"}, {"value": True}, {"value": "a team of many words", "description": "the rest"}],
}
SCORE = {"type": "score", "name": "mood", "instructions": "How so?", "levels": [{"label": "bad"}, {"label": "good"}]}


def request_of(*questions: dict[str, Any], given: object = "The box came on Monday.") -> DecisionRequest:
    return parse_body(DecisionRequest, json.dumps({"input": given, "questions": list(questions)}).encode())


def decided(request: DecisionRequest, **facts: Any) -> tuple[list[Generation], decisions.DecisionBody]:
    model = tiny_model(**{"capabilities": ABLE, **facts})
    conversation = decisions.read_input(request)
    prompts = [
        model.prompter.render_chat(decisions.asked(request, index, conversation, model.tokenizer)[0], thinking=False)
        for index in range(len(request.questions))
    ]
    generations = decisions.generations(request, prompts, model, "r")
    return generations, decisions.DecisionBody(request, generations, model)


@settings(max_examples=examples(40))
@given(st.lists(st.floats(-60, 0), min_size=7, max_size=7), st.randoms())
def test_probabilities_are_the_softmax_over_the_options(logprobs: list[float], random: Any) -> None:
    request = request_of(PREDICATE, CHOICE, SCORE)
    generations, body = decided(request)
    given_: dict[int, list[float]] = {}
    positions = [0, 1, 2]
    random.shuffle(positions)
    for position in positions:
        ids = generations[position].spec.sampling.logprob_ids
        given_[position] = [logprobs.pop() for _ in ids]
        token = TokenLogprob(ids[0], -1.0, tuple(zip(ids, given_[position], strict=True)))
        body.feed(Delta(0, [Content("A")], [ids[0]], [token], Finish("length")), position)
    answer = Decision.model_validate_json(body.body())
    predicate, choice, score = answer.answers
    assert (predicate.type, choice.type, score.type) == ("predicate", "choice", "score")
    assert [one.name for one in answer.answers] == ["late", None, "mood"]
    told = [
        [predicate.probability, 1 - predicate.probability],
        [one.probability for one in choice.probabilities],
        [one.probability for one in score.probabilities],
    ]
    for position, probabilities in enumerate(told):
        total = sum(map(math.exp, given_[position]))
        assert probabilities == pytest.approx([math.exp(one) / total for one in given_[position]], abs=1e-9)
    best = max(choice.probabilities, key=lambda one: one.probability)
    assert choice.confidence == best.probability
    assert (type(choice.choice), choice.choice) == (type(best.value), best.value)
    assert [type(one.value) for one in choice.probabilities] == [str, bool, str]
    assert score.score == pytest.approx(score.probabilities[1].probability)


def test_every_option_has_a_token_of_its_own() -> None:
    many = {**CHOICE, "choices": [{"value": f"option {n}"} for n in range(26)]}
    levels = {**SCORE, "levels": [{"label": str(n)} for n in range(10)]}
    generations, _ = decided(request_of(PREDICATE, CHOICE, many, levels))
    for generation, size in zip(generations, (2, 3, 26, 10), strict=True):
        sampling = generation.spec.sampling
        assert len(set(sampling.logprob_ids)) == size
        assert sampling.allowed_token_ids == sampling.logprob_ids
        assert sampling.max_tokens == 1


def test_the_questions_share_the_prompt_up_to_themselves() -> None:
    long = "word " * 50
    for conversation in (long, [{"role": "user", "content": long}, {"role": "assistant", "content": "ok"}]):
        generations, _ = decided(request_of(PREDICATE, CHOICE, SCORE, given=conversation))
        prompts = [generation.spec.prompt_ids for generation in generations]
        shared = next(n for n, ids in enumerate(zip(*prompts, strict=False)) if len(set(ids)) > 1)
        assert shared > len(tiny_model().tokenizer.encode(long)) - 2


PARSERS = [
    *({"tool_parser": name} for name in tool_names() if name != DECLARED),
    *({"reasoning_parser": name} for name in reasoning_names() if name != DECLARED),
]


@pytest.mark.parametrize("parsers", PARSERS, ids=lambda parsers: "-".join(next(iter(parsers.items()))))
def test_what_stands_in_front_of_an_answer_makes_it_one(parsers: dict[str, str]) -> None:
    """Behind a prompt of every family, whether it has opened a thought or not, the label is the answer's content."""
    model = tiny_model(**parsers)
    thought = program(parsers.get("tool_parser"), parsers.get("reasoning_parser")).thinking("")
    for tail in ("", "<|im_start|>assistant\n", *(thought.openers if thought else ())):
        message = parse(answer_opening(model, tail) + "Yes", prompt_tail=tail, **parsers)
        assert (message.reasoning, message.content.strip()) == ("", "Yes"), tail


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x", "questions": []}, "questions"),
        ({"input": "", "questions": [PREDICATE]}, "input"),
        ({"questions": [PREDICATE]}, "input"),
        ({"input": "x", "questions": [PREDICATE, {"type": "guess", "instructions": "a"}]}, "questions[1]"),
        ({"input": "x", "questions": [{"type": "predicate"}]}, "questions[0].instructions"),
        ({"input": "x", "questions": [{**CHOICE, "choices": [{"value": "a"}]}]}, "questions[0].choices"),
        ({"input": "x", "questions": [{**CHOICE, "choices": [{"value": "a"}] * 2}]}, "questions[0].choices"),
        ({"input": "x", "questions": [{**SCORE, "levels": [{"label": 1}] * 2}]}, "questions[0].levels[0].label"),
        ({"input": "x", "questions": [PREDICATE] * 401}, "questions"),
    ],
)
def test_refusals_name_the_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parse_body(DecisionRequest, json.dumps(body).encode())
    assert caught.value.param == param


def test_more_options_than_the_vocabulary_tells_apart() -> None:
    many = {**CHOICE, "choices": [{"value": str(n)} for n in range(255)]}
    with pytest.raises(BadRequestError) as caught:
        decided(request_of(PREDICATE, many))
    assert caught.value.param == "questions[1].choices"


def test_engines_that_cannot_say() -> None:
    with pytest.raises(BadRequestError) as caught:
        decided(request_of(PREDICATE), capabilities=frozenset({"generate", "logprobs"}))
    assert caught.value.param == "model"
    _, body = decided(request_of(PREDICATE))
    with pytest.raises(EngineError):
        body.body()
