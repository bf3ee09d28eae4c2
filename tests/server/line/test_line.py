"""The line by itself, step by step: who is let in, where outputs go, and how a flight ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from portico.errors import EngineDeadError, EngineError, OverloadedError, PorticoError, RequestTimeoutError
from portico.events import EngineOutput, EngineRequest
from portico.server.line import line as step_loop
from portico.server.line import resuming
from support.line import House, Sink, asked, output, turns


async def test_each_output_goes_where_it_belongs() -> None:
    """Several flights of several generations with several choices, in one step: each sink is written to once."""
    async with House() as house:
        flights = [house.flight(of=2, spec={"n": 2}) for _ in range(3)]
        for flight in flights:
            await house.line.admit(flight)
        assert house.line.in_flight == 3
        assert house.line.load == (0, 12)
        nobody = EngineOutput("nobody", (65,))
        texts = {(f, r): f"{f}{r}" for f in range(3) for r in range(4)}
        await house.give(nobody, *(output(flights[f], text, of=r) for (f, r), text in texts.items()))
        assert house.line.load == (12, 0)
        for number, flight in enumerate(flights):
            said = [(p, c, f"{number}{2 * p + c}") for p in range(2) for c in range(2)]
            assert flight.sink.got == [*said, "flush"]  # type: ignore[attr-defined]
        ends = [output(flights[1], "", "stop" if of else "length", of=of) for of in range(4)]
        await house.give(*ends[:3])
        assert not flights[1].over
        await house.give(ends[3])
        assert flights[1].sink.got[-2:] == ["finish", "flush"]  # type: ignore[attr-defined]
        assert flights[1].finishes == ["length", "stop", "stop", "stop"]
        assert (house.line.in_flight, house.line.load) == (2, (8, 0))
        assert not house.engine.aborted, "the engine knows that it has ended"
        finished = [one for one in house.told if one[0] in ("finished", "over")]
        assert finished == [*(("finished", one) for one in flights[1].finishes), ("over", flights[1].generations)]


async def test_the_engine_is_told_what_is_no_longer_wanted() -> None:
    async with House() as house:
        stopped = house.flight(spec={"stop": ["END"]})
        gone, kept = house.flight(spec={"n": 3}), house.flight()
        for flight in (stopped, gone, kept):
            await house.line.admit(flight)
        ids = asked(gone)
        await house.give(output(stopped, "a END b"), output(gone, "x", "stop", of=1))
        assert house.engine.aborted == [asked(stopped)[0]]
        house.line.abort(gone)
        house.line.abort(gone)
        assert house.engine.aborted[1:] == [ids[0], ids[2]], "one of its choices had ended"
        assert house.line.in_flight == 1
        await house.give(output(gone, "late", of=0))
        assert all("late" not in str(one) for one in gone.sink.got)  # type: ignore[attr-defined]
        assert house.told.count(("over", gone.generations)) == 1


@pytest.mark.parametrize(
    ("end", "error", "said"),
    [
        ("error", "Out of memory.", "Out of memory."),
        ("error", None, "The engine ended this request."),
        ("abort", None, "The engine ended this request."),
    ],
)
async def test_a_failure_ends_a_flight_alone(end: str, error: str | None, said: str) -> None:
    async with House() as house:
        bad, good = house.flight(spec={"n": 2}), house.flight()
        for flight in (bad, good):
            await house.line.admit(flight)
        await house.give(output(bad, "", end, error=error), output(good, "fine"), output(bad, "late", of=1))
        assert bad.sink.got[-1] == "flush"  # type: ignore[attr-defined]
        assert bad.sink.errors == [(EngineError, said)]  # type: ignore[attr-defined]
        assert bad.over
        assert asked(bad)[1] in house.engine.aborted, "nor is its other choice wanted"
        assert good.sink.got == [(0, 0, "fine"), "flush"]  # type: ignore[attr-defined]


async def test_a_fault_of_ours_ends_a_flight_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with House() as house:
        bad, good = house.flight(Sink(fails="x")), house.flight()
        for flight in (bad, good):
            await house.line.admit(flight)
        await house.give(output(bad, "x"), output(good, "fine"))
        ((kind, said),) = bad.sink.errors  # type: ignore[attr-defined]
        assert kind is PorticoError
        assert "has been logged" in said
        assert f"request {asked(bad)[0]} failed" in caplog.text
        assert house.engine.aborted == [asked(bad)[0]]
        assert not good.over


async def test_steps_that_come_fast_share_their_writes() -> None:
    async with House() as house:
        flight = house.flight()
        got: list[Any] = flight.sink.got  # type: ignore[attr-defined]
        await house.line.admit(flight)
        await house.give(output(flight, "a"))
        assert got[1:] == ["flush"]
        await house.give(output(flight, "b"), after=0.0)
        await house.give(output(flight, "c"), after=step_loop.WRITE_SECONDS / 4)
        assert got[2:] == [(0, 0, "b"), (0, 0, "c")]
        await house.passes(step_loop.WRITE_SECONDS)
        assert got[4:] == ["flush"]
        await house.passes(5.0)
        await house.give(output(flight, "d"), after=step_loop.WRITE_SECONDS)
        assert got[5:] == [(0, 0, "d"), "flush"]
        assert len(house.told.step) == 4
        assert all(0 <= one < 60 for one in house.told.step)


async def test_a_client_that_reads_too_slowly_is_let_go() -> None:
    async with House() as house:
        slow, other = house.flight(), house.flight()
        for flight in (slow, other):
            await house.line.admit(flight)
        slow.sink.stalled = True  # type: ignore[misc]
        await house.give(output(slow, "a"), output(other, "b"))
        assert slow.sink.errors == [(RequestTimeoutError, "The client reads too slowly.")]  # type: ignore[attr-defined]
        assert house.engine.aborted == [asked(slow)[0]]
        assert other.sink.got == [(0, 0, "b"), "flush"]  # type: ignore[attr-defined]


async def test_who_is_not_let_in_leaves_nothing_behind() -> None:
    async with House(max_in_flight=2) as house:
        first = [house.flight() for _ in range(2)]
        for flight in first:
            await house.line.admit(flight)
        with pytest.raises(OverloadedError) as full:
            await house.line.admit(house.flight())
        assert (full.value.code, full.value.retry_after, full.value.status) == ("queue_full", 1, 503)
        house.line.abort(first[0])
        await house.line.admit(house.flight())
        house.line.drain()
        assert (house.line.draining, house.line.healthy) == (True, False)
        for ask in (house.line.admit(house.flight()), house.line.embed([[1]])):
            with pytest.raises(OverloadedError, match="shutting down") as draining:
                await ask
            assert draining.value.retry_after == 1
        assert len(house.engine.requests) == 3
        assert house.told.count(("admitted",)) == 3


async def test_what_the_engine_refuses_is_nobodys() -> None:
    """Of several choices a later one is refused: the others are not wanted any more, and nothing of it was used."""
    async with House() as house:
        flight = house.flight(spec={"n": 3})

        def taking(request: EngineRequest) -> None:
            if len(house.engine.requests) == 2:
                raise EngineDeadError("No.")

        house.engine.taking = taking
        with pytest.raises(EngineDeadError):
            await house.line.admit(flight)
        assert house.engine.aborted == [request.request_id for request in house.engine.requests]
        assert (house.line.in_flight, house.line.load, house.line.in_use) == (0, (0, 0), False)
        assert [one[0] for one in house.told] == ["admitted", "over"]
        assert flight.sink.got == []  # type: ignore[attr-defined]


async def test_who_goes_while_the_engine_takes_it_is_not_left_there() -> None:
    async with House() as house:
        flight = house.flight()
        house.engine.taking = lambda request: house.line.abort(flight)
        await house.line.admit(flight)
        assert house.engine.aborted[-1] == house.engine.requests[0].request_id


async def test_it_is_in_use_as_long_as_anybody_is() -> None:
    async with House() as house:
        line = house.line
        assert not line.in_use
        assert line.unused_for(line.used + 7.0) == 7.0
        flight = house.flight()
        with line.using():
            with line.using():
                assert line.in_use
            assert line.in_use
            await line.admit(flight)
        assert line.in_use, "an answer is on its way"
        assert line.unused_for(line.used + 7.0) == 0.0
        waiting = asyncio.create_task(line.unused())
        await turns()
        assert not waiting.done()
        line.used = 0.0
        line.abort(flight)
        await turns()
        assert waiting.done()
        assert line.used > 0.0
        line.used = 0.0
        with pytest.raises(ValueError, match="x"), line.using():
            raise ValueError("x")
        assert not line.in_use
        assert line.used > 0.0, "they had to do with it until now"


async def test_deadlines_hold() -> None:
    async with House(keep_alive=0) as house:
        bounded, patient, endless = house.flight(timeout=5.0), house.flight(timeout=500.0), house.flight()
        for flight in (bounded, patient, endless):
            await house.line.admit(flight)
        for _ in range(5):
            assert not bounded.over
            await house.passes(1.0)
        await house.passes(1.0)
        said = "The request took longer than 5 seconds."
        assert bounded.sink.errors == [(RequestTimeoutError, said)]  # type: ignore[attr-defined]
        assert house.engine.aborted == [asked(bounded)[0]]
        for flight in (patient, endless):
            assert flight.sink.got == [], "nor is there any comment"  # type: ignore[attr-defined]


async def test_silent_streams_are_told_now_and_then() -> None:
    async with House(keep_alive=3.0) as house:
        flights = [house.flight(), house.flight()]
        for flight in flights:
            await house.line.admit(flight)
        counts = []
        for _ in range(9):
            await house.passes(1.0)
            counts.append(len(flights[0].sink.got))  # type: ignore[attr-defined]
        assert counts == [0, 0, 1, 1, 1, 2, 2, 2, 3]
        assert all(flight.sink.got == ["comment"] * 3 for flight in flights)  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["ends", "fails"])
async def test_without_steps_there_are_no_answers(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with House() as house:
        flights = [house.flight(), house.flight()]
        for flight in flights:
            await house.line.admit(flight)
        house.engine.given.put_nowait(ValueError("broken") if how == "fails" else None)
        await turns()
        assert ("step stream failed" in caplog.text) is (how == "fails")
        for flight in flights:
            assert flight.sink.errors == [(EngineDeadError, "The engine stopped.")]  # type: ignore[attr-defined]
            assert flight.sink.got[-1] == "flush"  # type: ignore[attr-defined]
        assert not house.line.in_flight


async def test_at_the_end_everybody_is_told() -> None:
    house = House()
    async with house:
        assert house.engine.life == ["start"]
        assert house.line.healthy
        house.engine.healthy = False
        assert not house.line.healthy
        flights = [house.flight(), house.flight()]
        for flight in flights:
            await house.line.admit(flight)
        await house.give(output(flights[1], "a"))
        await house.give(output(flights[1], "b"), after=0.0)
    assert house.engine.life == ["start", "close"]
    for flight in flights:
        ((kind, said),) = flight.sink.errors  # type: ignore[attr-defined]
        assert kind is OverloadedError
        assert "shutting down" in said
    assert len(house.engine.aborted) == 2
    assert house.line.draining is True
    assert all(task.done() for task in house.line._tasks)


@pytest.mark.parametrize("resume", [True, False])
async def test_of_what_may_not_go_on_no_tokens_are_kept(resume: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "MOST_KEPT", 10)
    async with House(resume=resume) as house:
        flights = [house.flight() for _ in range(3)]
        for flight, length in zip(flights, (4, 6, 5), strict=True):
            await house.line.admit(flight)
            await house.give(output(flight, "x" * length), after=0.1)
        kept = [flight.generations[0].choices[0].token_ids for flight in flights]
        assert [one and len(one) for one in kept] == ([4, 6, 5] if resume else [None] * 3)
        await house.passes(1.0)
        kept = [flight.generations[0].choices[0].token_ids for flight in flights]
        assert [one and len(one) for one in kept] == ([4, None, 5] if resume else [None] * 3), "the longest goes"
        await house.give(output(flights[0], "", "lost"))
        assert bool(flights[0].sink.errors) is not resume  # type: ignore[attr-defined]
