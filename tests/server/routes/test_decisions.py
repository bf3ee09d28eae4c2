"""Decisions of a real model, through the official SDK: the probabilities are the model's own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.lib.decisions_tool_runner import DecisionsToolRunner, DecisionsToolRunnerError

from portico.prompting import load_tokenizer
from portico.protocols.openai import decisions
from portico.protocols.openai.decisions import DecisionRequest
from support.openai_client import client_of
from support.server import RunningServer, running_server

TOLERANCE = 0.02  # of a probability; rows that are computed in other batches have other last bits
STATE = [
    {"role": "system", "content": "You read letters to a shop."},
    {"role": "user", "content": [{"type": "input_text", "text": "The box arrived crushed. " * 12}]},
    {"type": "function_call", "call_id": "c1", "name": "find_order", "arguments": '{"id": 7}'},
    {"type": "function_call_output", "call_id": "c1", "output": "Order 7: one lamp."},
    {"role": "user", "content": [{"type": "input_json", "data": {"sender": "Ada", "orders": 3}}]},
]
QUESTIONS: list[Any] = [
    {"type": "predicate", "name": "damaged", "instructions": "Something is broken."},
    {
        "type": "choice",
        "instructions": [{"type": "input_text", "text": "Which team should answer?"}],
        "choices": [
            {"value": "billing"},
            {"value": "the team that looks after everything that was lost or broken on its way"},
            {"value": True},
            {"value": "true", "description": "the word"},
        ],
    },
    {"type": "choice", "instructions": "Pick one.", "choices": [{"value": f"shelf {n}"} for n in range(40)]},
    {
        "type": "score",
        "instructions": "How angry?",
        "levels": [{"label": "calm"}, {"label": "cross"}, {"label": "mad"}],
    },
]


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[RunningServer]:
    with running_server("smollm2", "--log-level", "warning", "--inspect", "--api-key", "key") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[OpenAI]:
    with client_of(server, "key") as one:
        yield one


def own_probabilities(client: OpenAI, question: int, path: Path) -> list[float]:
    """The softmax of the logprobs that the labels have where each alone is allowed; a logprob is that of the model's
    own distribution, whatever is allowed."""
    tokenizer = load_tokenizer(path)
    request = DecisionRequest.model_validate({"input": STATE, "questions": QUESTIONS})
    messages, _ = decisions.asked(request, question, decisions.read_input(request), tokenizer)
    prompt = client.post("/chat/completions/render", body={"messages": messages}, cast_to=httpx.Response).json()
    logprobs = []
    for label in decisions._labels(request.questions[question], tokenizer):
        (token,) = tokenizer.encode(label)
        answer = client.completions.create(
            model="smollm2",
            prompt=prompt["token_ids"],
            max_tokens=1,
            logprobs=0,
            extra_body={"allowed_token_ids": [token]},
        )
        assert answer.choices[0].logprobs is not None
        assert answer.choices[0].logprobs.token_logprobs is not None
        logprobs.append(answer.choices[0].logprobs.token_logprobs[0])
    total = sum(map(math.exp, logprobs))
    return [math.exp(one) / total for one in logprobs]


def test_probabilities_are_the_models_own(client: OpenAI, smollm2_path: Path) -> None:
    answer = client.decisions.create(model="smollm2", input=STATE, questions=QUESTIONS)
    assert answer.model == "smollm2"
    predicate, teams, shelves, score = answer.answers
    assert (predicate.type, predicate.name) == ("predicate", "damaged")
    assert (teams.type, shelves.type, score.type) == ("choice", "choice", "score")
    told = [
        [predicate.probability, 1 - predicate.probability],
        [one.probability for one in teams.probabilities],
        [one.probability for one in shelves.probabilities],
        [one.probability for one in score.probabilities],
    ]
    for question in (0, 1, 3):
        assert told[question] == pytest.approx(own_probabilities(client, question, smollm2_path), abs=TOLERANCE)
    assert [one.value for one in teams.probabilities] == [one["value"] for one in QUESTIONS[1]["choices"]]
    for probabilities in told:
        assert sum(probabilities) == pytest.approx(1)
    assert score.score == pytest.approx(sum(one.value * one.probability for one in score.probabilities))
    usage = answer.usage
    assert usage.output_tokens == len(QUESTIONS)
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_the_sdks_runner_finds_all_it_looks_for(client: OpenAI) -> None:
    """Whichever way the model chooses: it comes to an end, or takes all its steps."""
    count = [0]

    def add() -> None:
        count[0] += 1

    runner = DecisionsToolRunner(
        observe=lambda: [{"type": "input_text", "text": f"The counter is {count[0]}."}],
        candidates=lambda seen: [
            {"id": "add", "description": "add one", "execute": add},
            {"id": "done", "description": "the counter is right", "done": True},
        ],
    )
    try:
        done = runner.run(client, {"model": "smollm2", "input": "Count to two."}, max_steps=3)[
            "completed_candidate_ids"
        ]
    except DecisionsToolRunnerError as error:
        if error.reason != "step_limit":
            raise
        done = list(error.completed_candidate_ids)
    assert done == ["add"] * count[0]


def test_the_input_is_read_once(client: OpenAI) -> None:
    given = "A lamp, a box and a letter. " * 40
    questions: Any = [{"type": "predicate", "instructions": f"There are {n} lamps."} for n in range(6)]
    answer = client.decisions.create(model="smollm2", input=given, questions=questions)
    assert len(answer.answers) == len(questions)
    cached = answer.usage.input_tokens_details.cached_tokens
    assert cached > answer.usage.input_tokens * (len(questions) - 1) / len(questions) * 0.8


def test_refused_as_every_request(client: OpenAI, server: RunningServer) -> None:
    picture: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}]
    fields: dict[str, tuple[dict[str, Any], str]] = {
        "a picture": ({"input": picture}, "input[0].content[0]"),
        "nobody called": (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            "input[0].call_id",
        ),
        "too long": ({"input": "word " * 20_000}, "input"),
        "no data": ({"input": [{"role": "user", "content": [{"type": "input_json"}]}]}, "input[0].content[0].data"),
    }
    for changes, param in fields.values():
        with pytest.raises(openai.BadRequestError) as caught:
            client.decisions.create(**{"model": "smollm2", "input": "x", "questions": QUESTIONS[:1], **changes})
        assert caught.value.param == param
    with pytest.raises(openai.NotFoundError):
        client.decisions.create(model="other", input="x", questions=QUESTIONS[:1])
    with client_of(server, "wrong") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.decisions.create(model="smollm2", input="x", questions=QUESTIONS[:1])


def test_watched_as_every_request(client: OpenAI, server: RunningServer) -> None:
    extra = {"extra_headers": {"X-Request-Id": "decided-1"}, "extra_body": {"temperature": 1}}
    raw = client.decisions.with_raw_response.create(model="smollm2", input="x", questions=QUESTIONS[:1], **extra)
    assert raw.headers["x-portico-warning"] == "unknown fields ignored: temperature"
    headers = {"Authorization": "Bearer key"}
    traces = httpx.get(server.url + "/inspect/traces", headers=headers).text
    assert "decided-1" in traces
    assert "/v1/decisions" in traces
    assert 'route="/v1/decisions"' in httpx.get(server.url + "/metrics", headers=headers).text
