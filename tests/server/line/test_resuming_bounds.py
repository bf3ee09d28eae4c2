"""What is taken up again, and what is not: each reason by itself, what the client is told, and what is logged."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from portico.engines import EmbeddingBatch, EngineInfo
from portico.errors import BadRequestError, EngineDeadError, EngineError, EngineLostError, OverloadedError
from portico.events import EngineRequest
from portico.server.line import resuming
from portico.server.line.flight import Flight
from support.line import House, Watching, asked, output, turns

LOST = "The engine stopped: it was killed."


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again in the next turn, and all that is logged is written."""
    monkeypatch.setattr(resuming, "RETRY", 0.0)
    caplog.set_level(logging.INFO, "portico")


async def begun(house: House, text: str = "abc", **more: Any) -> Flight:
    flight = house.flight(**more)
    await house.line.admit(flight)
    await house.give(output(flight, text))
    return flight


async def test_it_goes_on_where_it_was(caplog: pytest.LogCaptureFixture) -> None:
    async with House() as house:
        flights = [await begun(house, text) for text in ("abc", "de")]
        ids = [asked(flight)[0] for flight in flights]
        house.engine.taking = _away(EngineDeadError("Away."))
        for flight in flights:
            await house.give(output(flight, "", "lost", error=LOST))
        await house.passes(3.0)
        house.engine.taking = lambda request: None
        await house.passes(0.0)
        again = house.engine.requests[2:]
        assert [request.request_id for request in again] == [f"{id}+1" for id in ids]
        assert [len(request.generated) for request in again] == [3, 2]
        told = [one[1:] for one in house.told if one[0] == "resumed"]
        assert told == [(3, 4.0), (2, 3.0)]
        assert "2 answers go on after at most 4.0 s; 5 tokens of theirs existed" in caplog.text
        for flight in flights:
            await house.give(output(flight, "!", "stop"))
            assert flight.sink.got[-3:] == [(0, 0, "!"), "finish", "flush"]  # type: ignore[attr-defined]
            assert not house.engine.aborted


def _away(error: Exception) -> Any:
    def taking(request: EngineRequest) -> None:
        raise error

    return taking


REASONS = ["off", "kept no more", "cannot", "suspected"]


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("why", [LOST, None])
async def test_every_reason_to_end(reason: str, why: str | None, caplog: pytest.LogCaptureFixture) -> None:
    async with House(resume=reason != "off") as house:
        if reason == "cannot":
            info = house.engine.info
            house.engine.info = EngineInfo(info.model, info.context_length, info.vocab_size, info.capabilities)
        watch: Any = Watching()
        flight = await begun(house, watches=[lambda choice, position: watch])
        (route,) = flight.routes
        if reason == "kept no more":
            route.choice.forget()
        if reason == "suspected":
            await house.give(output(flight, "", "lost", error="First."))
            assert not flight.sink.errors  # type: ignore[attr-defined]
        await house.give(output(flight, "", "lost", error=why))
        said = why or "The engine stopped."
        more = " It was not the first time with this request, so it is not tried again."
        expected = said + more * (reason == "suspected")
        assert flight.sink.errors == [(EngineError, expected)]  # type: ignore[attr-defined]
        assert watch.seen["lost"][-1] == (why or "",)
        assert len(house.engine.requests) == 1 + (reason == "suspected")
        assert ("cannot take it up again exactly" in caplog.text) is (reason == "cannot")
        assert ("lost with it 2 times" in caplog.text) is (reason == "suspected")
        assert not house.line.in_flight
        house.line._resuming.lost(route, why)
        assert len(flight.sink.errors) == 1, "it was over"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (BadRequestError("Too long."), BadRequestError, "Too long."),
        (EngineError("No."), EngineError, "No."),
        (ValueError("a fault"), EngineError, "The engine stopped."),
    ],
)
async def test_what_the_next_engine_refuses_ends(
    raised: Exception, kind: type[Exception], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with House() as house:
        flight, other = await begun(house), await begun(house)
        house.engine.taking = _away(raised)
        await house.give(output(flight, "", "lost"))
        assert flight.sink.errors == [(kind, said)]  # type: ignore[attr-defined]
        assert ("cannot be handed in again" in caplog.text) is isinstance(raised, ValueError)
        assert not other.over


@pytest.mark.parametrize("error", [EngineDeadError("Away."), OverloadedError("Full.")])
@pytest.mark.parametrize(("timeout", "patience"), [(None, resuming.PATIENCE), (1e6, 1e6)])
async def test_it_waits_for_as_long_as_it_may(error: Any, timeout: float | None, patience: float) -> None:
    async with House(keep_alive=0) as house:
        flight = await begun(house, timeout=timeout)
        house.engine.taking = _away(error)
        await house.give(output(flight, "", "lost"))
        await house.passes(patience - 5.0)
        assert not flight.over
        await house.passes(10.0)
        assert flight.over
        if timeout is None:
            assert flight.sink.errors == [(type(error), error.message)]  # type: ignore[attr-defined]


async def test_who_goes_meanwhile_is_not_handed_in() -> None:
    async with House() as house:
        flight = await begun(house)
        house.engine.taking = _away(EngineDeadError("Away."))
        await house.give(output(flight, "", "lost"))
        house.line.abort(flight)
        house.engine.taking = lambda request: None
        await turns()
        assert len(house.engine.requests) == 1
        assert not house.engine.aborted, "no engine has it"


class Asked:
    """Raises these one after the other, then gives an answer."""

    def __init__(self, *raised: Exception) -> None:
        self.raised = list(raised)
        self.count = 0

    async def __call__(self) -> EmbeddingBatch:
        self.count += 1
        if self.raised:
            raise self.raised.pop(0)
        return EmbeddingBatch(None, [1])  # type: ignore[arg-type]


DIED, AWAY, FULL = EngineLostError, EngineDeadError, OverloadedError


@pytest.mark.parametrize(
    ("raised", "asked", "ends"),
    [
        ([], 1, None),
        ([DIED], 2, None),
        ([DIED, AWAY, FULL, AWAY], 5, None),
        ([DIED, DIED], 2, DIED),
        ([AWAY], 1, AWAY),
        ([FULL], 1, FULL),
        ([EngineError], 1, EngineError),
        ([DIED, EngineError], 2, EngineError),
    ],
)
async def test_a_question_is_asked_again(raised: list[Any], asked: int, ends: Any) -> None:
    async with House() as house:
        ask = Asked(*(one("It.") for one in raised))
        if ends is None:
            assert (await house.line._resuming.outlive(ask)).prompt_tokens == [1]
        else:
            with pytest.raises(ends) as caught:
                await house.line._resuming.outlive(ask)
            assert raised != [DIED, DIED] or caught.value.retry_after is None
        assert ask.count == asked
        assert house.told == ([("resumed", 0, 0.0)] if len(raised) > 0 and ends is None else [])


@pytest.mark.parametrize(("raised", "asked"), [([DIED], 1), ([DIED, AWAY], 2), ([DIED, FULL], 2)])
async def test_at_the_end_nothing_is_asked_again(raised: list[Any], asked: int) -> None:
    async with House() as house:
        ask = Asked(*(one("It.") for one in raised))
        if asked == 1:
            house.line._resuming.close()
        asking = asyncio.create_task(house.line._resuming.outlive(ask))
        while ask.count < asked - 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        house.line._resuming.close()
        with pytest.raises(raised[-1]):
            await asking
        assert ask.count == asked


async def test_a_question_has_its_patience() -> None:
    async with House(keep_alive=0) as house:
        ask = Asked(DIED("It."), *(AWAY("It.") for _ in range(10_000)))
        asking = asyncio.create_task(house.line._resuming.outlive(ask))
        await turns()
        await house.passes(resuming.PATIENCE)
        assert not asking.done()
        await house.passes(1.0)
        with pytest.raises(AWAY):
            await asking
