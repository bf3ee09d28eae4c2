"""What a line tells an API key's account: once for an answer, however many engines it took; nothing for a refusal."""

from __future__ import annotations

from itertools import repeat

import pytest

from portico.engines.replay import ReplayEngine, Script
from portico.errors import EngineDeadError, PorticoError
from portico.events import EngineRequest, SamplingParams
from portico.generation import Delta, Generation, GenerationSpec
from portico.keys import Key
from portico.keys.accounts import VISIT, Accounts
from portico.server.line import resuming
from portico.server.line.flight import Flight
from portico.server.line.line import Line
from portico.server.observe.metrics import Metrics
from support.generation import tiny_model
from support.mortal import MortalEngine
from support.wait import eventually

KEY = Key(name="ann", requests_per_minute=5, tokens_per_minute=1000)
MODEL = tiny_model()
PROMPT = MODEL.tokenizer.encode("some prompt")
TEXT = MODEL.tokenizer.encode("Hello there, how do you do?")


def generation(most: int) -> Generation:
    spec = GenerationSpec(request_id="r", prompt_ids=PROMPT, sampling=SamplingParams(max_tokens=most))
    return Generation(spec, MODEL.tokenizer)


def left(accounts: Accounts) -> tuple[int, int]:
    requests, tokens = accounts.visit(KEY).standing()
    assert requests is not None
    assert tokens is not None
    return requests.remaining, tokens.remaining


class Nowhere:
    """A sink that keeps nothing."""

    stalled = False

    def feed(self, delta: Delta, position: int) -> None: ...
    def flush(self) -> None: ...
    def finish(self) -> None: ...
    def fail(self, error: PorticoError) -> None: ...
    def keep_alive(self) -> None: ...


class Refusing(ReplayEngine):
    async def submit(self, request: EngineRequest) -> None:
        raise EngineDeadError("No.")


async def test_what_the_engine_refuses_is_given_back() -> None:
    accounts = Accounts()
    visit = accounts.visit(KEY)
    VISIT.set(visit)
    visit.enter(None)
    line = Line(Refusing(choose=lambda _: Script(TEXT)), Metrics())
    await line.start()
    with pytest.raises(EngineDeadError):
        await line.admit(Flight([generation(50)], Nowhere()))
    visit.leave()
    assert left(accounts) == (5, 1000)
    await line.close()


@pytest.mark.parametrize("lives", [(), repeat(1)])
async def test_an_answer_counts_once(lives: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "MOST_LOSSES", 1 << 30)
    monkeypatch.setattr(resuming, "RETRY", 0.0)
    accounts = Accounts()
    visit = accounts.visit(KEY)
    VISIT.set(visit)
    visit.enter(None)
    line = Line(MortalEngine(choose=lambda _: Script(TEXT), lives=lives), Metrics())
    await line.start()
    flight = Flight([generation(50)], Nowhere())
    await line.admit(flight)
    assert left(accounts) == (4, 1000 - len(PROMPT) - 50)
    await eventually(lambda: flight.over)
    visit.leave()
    usage = flight.generations[0].usage
    assert usage.completion_tokens >= len(TEXT)
    assert left(accounts) == (4, 1000 - usage.prompt_tokens - usage.completion_tokens)
    await line.close()
