"""An answer outlives its engine: whatever dies when, the bytes are those of the undisturbed answer."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import pytest

from portico.engines import EmbeddingBatch
from portico.engines.replay import ReplayEngine, Script
from portico.errors import EngineDeadError, EngineLostError, PorticoError
from portico.events import EngineOutput, SamplingParams
from portico.generation import Generation, GenerationSpec, Model
from portico.server.line import resuming
from portico.server.line.flight import Flight, Route
from portico.server.line.line import Line
from portico.server.observe.metrics import Metrics
from support.effort import EXHAUSTIVE
from support.generation import tiny_model
from support.mortal import Collecting, answered
from support.shared import shared_path
from support.streams import TOOL_PARSERS, TOOLS, sample_answers

PROTOCOLS = ["chat", "body", "completion", "messages"]
PLAIN = "Grüße! 🦜 Two <b>words</b>, and a < b. one two thrEND and more"


@pytest.fixture
def immortal_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is suspected, however often its engine dies, and nobody waits long for the next."""
    monkeypatch.setattr(resuming, "MOST_LOSSES", 1 << 30)
    monkeypatch.setattr(resuming, "RETRY", 0.0)


@pytest.mark.parametrize("number", range(len(TOOL_PARSERS)), ids=TOOL_PARSERS)
@pytest.mark.usefixtures("immortal_requests")
async def test_an_engine_that_dies_at_every_step(number: int) -> None:
    """The law, for every family: as many lives as steps. A protocol each in turn, all with ``PORTICO_EXHAUSTIVE=1``."""
    tool_parser = TOOL_PARSERS[number]
    model = tiny_model(tool_parser=tool_parser, reasoning_parser="qwen3")
    text = f"<think>Hm… 🦜</think>{sample_answers(tool_parser)[1]}"
    for protocol in PROTOCOLS if EXHAUSTIVE else [PROTOCOLS[number % len(PROTOCOLS)]]:
        await compare(protocol, text, model, 1 if EXHAUSTIVE else 17)


async def compare(protocol: str, text: str, model: Model, size: int, tools: Sequence[Any] = TOOLS) -> None:
    """The answer's bytes are the same over one life and over one life for each step of so many tokens."""
    undisturbed = await answered(protocol, text, model, tools, tokens_per_step=size)
    disturbed = await answered(protocol, text, model, tools, tokens_per_step=size, lives=repeat(1))
    assert undisturbed.error is None
    assert disturbed.error is None
    assert disturbed.data == undisturbed.data


@pytest.mark.usefixtures("immortal_requests")
async def test_recorded_outputs_of_real_models() -> None:
    """The law over every twentieth shared case, in a protocol each; ``PORTICO_EXHAUSTIVE=1``: all, in every one."""
    cases = [json.loads(line) for line in shared_path("cases/parser_cases.jsonl").read_text().splitlines()]
    for number, case in enumerate(cases if EXHAUSTIVE else cases[::20]):
        text, parser = case["output"], case["tool_parser"]
        if not text or "hf" in (
            parser,
            case["reasoning_parser"],
        ):  # which is read with the checkpoint's own description
            continue
        model = tiny_model(tool_parser=parser, reasoning_parser=case["reasoning_parser"])
        for protocol in PROTOCOLS if EXHAUSTIVE else [PROTOCOLS[number % len(PROTOCOLS)]]:
            await compare(protocol, text, model, 1 if EXHAUSTIVE else 2 + len(text) // 8, case["tools"] or ())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "more", [{"max_tokens": 20}, {"min_tokens": 5}, {"stop": ["END", "two thrE!"]}, {"seed": 3, "n": 3}]
)
@pytest.mark.usefixtures("immortal_requests")
async def test_rules_hold_across_lives(protocol: str, more: dict[str, Any]) -> None:
    if protocol == "messages":
        more = {{"stop": "stop_sequences"}.get(name, name): value for name, value in more.items()}
        more = {name: value for name, value in more.items() if name in ("max_tokens", "stop_sequences")}
    if "max_tokens" in more and protocol == "messages":
        more = {"max_tokens": 2000}
    model = tiny_model()
    undisturbed = await answered(protocol, PLAIN, model, **more)
    disturbed = await answered(protocol, PLAIN, model, **more, lives=repeat(1), away=2)
    assert disturbed.error is None
    assert disturbed.data == undisturbed.data


async def test_any_moment_of_a_single_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "RETRY", 0.0)
    model, steps = tiny_model(), len(PLAIN.encode())
    undisturbed = await answered("chat", PLAIN, model)
    some = {0, 1, steps - 1, steps, *random.Random(0).sample(range(steps), 8)}
    moments = range(steps + 1) if EXHAUSTIVE else sorted(some)
    for moment in moments:
        disturbed = await answered("chat", PLAIN, model, lives=[moment], away=1)
        assert disturbed.data == undisturbed.data, moment


async def test_a_request_whose_engines_keep_dying_is_suspected(caplog: pytest.LogCaptureFixture) -> None:
    found = await answered("chat", PLAIN, tiny_model(), lives=[2, 3])
    assert isinstance(found.error, PorticoError)
    assert "not the first time" in found.error.message
    assert "request id-" in caplog.text
    assert "lost with it 2 times" in caplog.text
    assert found.data.count(b'"delta"') > 4  # what came before stands


async def test_whoever_prefers_the_error_gets_it() -> None:
    found = await answered("chat", PLAIN, tiny_model(), lives=[2], resume=False)
    assert found.error is not None
    assert found.error.message == "The engine stopped: it was killed."


@pytest.mark.parametrize(
    ("deaths", "away", "resume", "asked"), [(1, 0, True, 2), (1, 3, True, 5), (2, 0, True, 2), (1, 0, False, 1)]
)
async def test_embeddings_are_computed_again(
    deaths: int, away: int, resume: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the bounds of answers: an engine that dies with them twice is not asked a third time."""
    monkeypatch.setattr(resuming, "RETRY", 0.0)
    engine, metrics = ReplayEngine([Script([1])]), Metrics()
    failures = [EngineLostError("It died.")] * deaths + [EngineDeadError("It is away.")] * away
    questions = []
    right = await engine.embed([[1, 2], [3]])

    async def embed(inputs: Any) -> EmbeddingBatch:
        questions.append(inputs)
        if failures:
            raise failures.pop(0)
        return right

    monkeypatch.setattr(engine, "embed", embed)
    line = Line(engine, metrics, keep_alive=0, resume=resume)
    await line.start()
    if deaths < resuming.MOST_LOSSES and resume:
        assert await line.embed([[1, 2], [3]]) is right
        assert b"portico_answers_resumed_total 1.0" in metrics.render()
    else:
        with pytest.raises(EngineLostError, match="It died"):
            await line.embed([[1, 2], [3]])
    assert questions == [[[1, 2], [3]]] * asked
    await line.close()


async def test_an_engine_that_was_away_before_is_not_waited_for() -> None:
    engine = ReplayEngine([Script([1])])
    line = Line(engine, Metrics(), keep_alive=0)
    await line.start()

    async def embed(_: Any) -> EmbeddingBatch:
        raise EngineDeadError("It is away.")

    engine.embed = embed  # type: ignore[method-assign]
    with pytest.raises(EngineDeadError, match="away"):
        await line.embed([[1]])
    await line.close()


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound the longest answers are given up, and only they."""

    def route(name: str, length: int) -> Route:
        spec = GenerationSpec(request_id=name, prompt_ids=[1], sampling=SamplingParams(max_tokens=1000))
        generation = Generation(spec, tiny_model().tokenizer)
        (request,), (choice,) = generation.engine_requests(), generation.choices
        for _ in range(length):
            choice.feed(EngineOutput(name, [65]))
        return Route(Flight([generation], Collecting(None)), request, choice.feed, 0, choice, ())

    monkeypatch.setattr(resuming, "MOST_KEPT", 100)
    routes = [route("short", 40), route("long", 90), route("none", 0)]
    resuming.Resuming(*[None] * 4).bound(routes)  # type: ignore[arg-type]
    assert [one.choice.token_ids for one in routes] == [[65] * 40, None, []]
    assert "long" in caplog.text
    for one in routes:
        one.choice.feed(EngineOutput("", [66]))
    assert [one.choice.token_ids for one in routes] == [[65] * 40 + [66], None, [66]]
