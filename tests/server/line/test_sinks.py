"""Where answers end up: a client that does not read costs bounded memory, and one that is silent hears a comment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from portico.engines.replay import ReplayEngine, Script
from portico.errors import EngineError, PorticoError, RequestTimeoutError
from portico.events import Content, Finish
from portico.generation import Delta
from portico.server.http.exchange import ClientGoneError
from portico.server.line import line as step_loop
from portico.server.line import writing
from portico.server.line.flight import Flight
from portico.server.line.line import Line
from portico.server.line.runs import Run
from portico.server.line.sinks import BodySink, EventSink, StreamSink
from portico.server.observe.metrics import Metrics
from support.generation import tiny_model
from support.mortal import encoded
from support.wait import eventually

PROTOCOLS = ["chat", "completion", "messages"]


class Exchange:
    """A connection whose transport takes everything, or, when it is ``full``, one piece and no more until ``room`` is
    told that there is some, or that there never will be."""

    def __init__(self, full: bool = False) -> None:
        self.sent: list[bytes] = []
        self.full = full
        self.ended = False
        self.room = asyncio.get_running_loop().create_future()
        self.gone = asyncio.get_running_loop().create_future()

    async def start_stream(self, media_type: bytes) -> None:
        assert media_type.startswith(b"text/event-stream")

    async def disconnected(self) -> None:
        await self.gone

    async def send(self, message: dict[str, Any]) -> None:
        assert not self.ended, "nothing follows the end"
        self.sent.append(message["body"])
        self.ended = not message["more_body"]
        if self.full:
            await self.room


def stream(protocol: str = "chat", **more: Any) -> tuple[list[Any], StreamSink]:
    generations, encoder = encoded(protocol, tiny_model(), (), **more)
    return generations, StreamSink(encoder)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_never_reads_costs_bounded_memory(
    protocol: str, opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it never takes the head of the answer or stops behind it: its request ends, at the engine too."""
    monkeypatch.setattr(writing, "MAX_UNSENT", 50_000)
    monkeypatch.setattr(step_loop, "WRITE_SECONDS", 0.0)  # else it depends on the machine how much one write has
    engine = ReplayEngine([Script(list(range(65, 90)) * 150)], tokens_per_step=3)
    line = Line(engine, Metrics(), keep_alive=0)
    await line.start()
    generations, sink = stream(protocol)
    failures: list[PorticoError] = []
    monkeypatch.setattr(sink, "fail", lambda error, fail=sink.fail: (failures.append(error), fail(error)))
    most = 0
    flush = sink.flush

    def watched() -> None:
        nonlocal most
        flush()
        most = max(most, sink._unsent_bytes)

    monkeypatch.setattr(sink, "flush", watched)
    if opened:
        await sink.open(Exchange(full=True))  # type: ignore[arg-type]
    await line.admit(Flight(generations, sink))
    await eventually(lambda: not line.in_flight)
    assert [type(error) for error in failures] == [RequestTimeoutError]
    assert 50_000 < most < 100_000
    assert generations[0].choices[0].completion_tokens < 25 * 150 / 2
    assert not engine._playing
    await line.close()


async def test_a_reader_that_never_reads_is_let_go_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_UNSENT", 50_000)
    line = Line(ReplayEngine([Script(list(range(65, 90)) * 150)], tokens_per_step=3), Metrics(), keep_alive=0)
    await line.start()
    generations, encoder = encoded("completion", tiny_model(), ())
    over: list[Run] = []
    run = Run(encoder, "", 120.0, over.append, id=None, lasting=False)
    stuck, reading = Exchange(full=True), Exchange()
    readers = [asyncio.create_task(run.read(one)) for one in (stuck, reading)]  # type: ignore[arg-type]
    await eventually(lambda: len(run._readers) == 2)
    (writer,) = [reader for reader in run._readers if reader._exchange is stuck]
    await line.admit(Flight(generations, run))
    await eventually(lambda: not line.in_flight)
    assert generations[0].finished
    assert writer not in run._readers
    assert writer.complete
    assert writer._unsent_bytes < 100_000
    await eventually(lambda: reading.ended)  # writes are shared: the last may come a moment later
    assert b"[DONE]" in reading.sent[-1]
    assert not over
    for task in readers:
        task.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    run._wait()
    assert run._unread is not None
    run._unread.cancel()
    await line.close()


async def test_what_came_before_the_head_follows_it_in_order() -> None:
    generations, sink = stream("completion")
    sink.write(b"data: 1\n\n")
    sink.flush()
    assert not sink.started
    sink.write(b"data: 2\n\n")
    connection = Exchange()
    await sink.open(connection)  # type: ignore[arg-type]
    sink.write(b"data: 3\n\n")
    sink.write(b"")
    sink.flush()
    sink.flush()
    assert connection.sent == [b"data: 1\n\ndata: 2\n\n", b"data: 3\n\n"]
    assert generations
    sink.finish()
    sink.flush()
    assert connection.sent[2].endswith(b"data: [DONE]\n\n")
    assert connection.ended


async def test_a_comment_only_where_nothing_was_said() -> None:
    _, sink = stream()
    connection = Exchange()
    sink.keep_alive()
    sink.keep_alive()  # its head has not been sent
    await sink.open(connection)  # type: ignore[arg-type]
    assert b"\n:" not in b"\n".join(connection.sent), "nobody could read it"
    connection.sent.clear()
    sink.keep_alive()
    assert len(connection.sent) == 1, "silent since the last time"
    assert connection.sent[0].startswith(b":")
    sink.keep_alive()
    assert len(connection.sent) == 2
    sink.fail(EngineError("Gone."))
    sink.flush()
    sent = list(connection.sent)
    assert b"Gone." in sent[-1]
    assert connection.ended
    sink.fail(EngineError("Again."))
    sink.keep_alive()
    sink.keep_alive()
    sink.flush()
    assert connection.sent == sent


@pytest.mark.parametrize("kind", ["stream", "run"])
async def test_what_was_said_puts_the_comment_off(kind: str) -> None:
    generations, encoder = encoded("completion", tiny_model(), ())
    assert generations
    connection = Exchange()
    sink: Any = StreamSink(encoder)
    if kind == "run":
        sink = Run(encoder, "", 120.0, lambda run: None, id=None, lasting=True)
        reading = asyncio.create_task(sink.read(connection))
        await eventually(lambda: sink._readers)
    else:
        await sink.open(connection)
    for _ in range(2):
        connection.sent.clear()
        sink.keep_alive()
        sink.flush()
        assert connection.sent == [], "it may have been said just now"
        sink.keep_alive()
        sink.flush()
        assert connection.sent == [encoder.keep_alive()]
        sink.feed(Delta(0, [Content("Hi")], (), []), 0)
        sink.flush()
    if kind == "run":
        sink.feed(Delta(0, [Content("you")], (), []), 0)
        for after in range(sink.last + 1):
            assert sink.events(after) == sink.events(0)[after:]
        assert len(sink.events(0)) == sink.last == 3
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.parametrize("ends", [False, True])
async def test_what_comes_while_the_transport_is_full_follows_in_one_piece(ends: bool) -> None:
    writer, connection = writing.ConnectionWriter(), Exchange(full=True)
    await writer.start(connection, b"1")  # type: ignore[arg-type]
    for piece in (b"2", b"3"):
        writer.write(piece)
        writer.flush()
    writer.complete = ends
    assert connection.sent == [b"1"]
    connection.full = False
    connection.room.set_result(None)
    await eventually(lambda: len(connection.sent) > 1)
    assert connection.sent == [b"1", b"23"]
    assert connection.ended is ends
    assert not writer._unsent_bytes
    writer.write(b"4")
    writer.flush()
    assert connection.sent[2:] == ([] if ends else [b"4"])


async def test_nothing_is_written_to_a_connection_that_broke() -> None:
    writer, connection = writing.ConnectionWriter(), Exchange(full=True)
    await writer.start(connection, b"1")  # type: ignore[arg-type]
    writer.write(b"2")
    task = writer._writing
    assert task is not None
    connection.room.set_exception(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError):
        await task
    await asyncio.sleep(0)
    assert connection.sent == [b"1"]


@pytest.mark.parametrize("first", ["finish", "fail", "gone"])
async def test_the_first_end_of_a_body_counts(first: str) -> None:
    model = tiny_model()
    ends: dict[str, Callable[[], None]] = {
        "finish": lambda: sink.finish(),
        "fail": lambda: sink.fail(EngineError("Gone.")),
        "gone": lambda: connection.gone.set_result(None),
    }
    connection = Exchange()
    sink = BodySink(encoded("body", model, ())[1])
    reading = asyncio.create_task(sink.body(connection))  # type: ignore[arg-type]
    sink.feed(Delta(0, [Content("Hi")], (), []), 0)
    await asyncio.sleep(0)
    assert not reading.done()
    ends[first]()
    if first != "gone":
        ends["fail"]()
        ends["finish"]()
    await asyncio.wait([reading])
    error = reading.exception()
    assert type(error) is {"finish": type(None), "fail": EngineError, "gone": ClientGoneError}[first]
    if error is None:
        assert json.loads(reading.result())["choices"][0]["message"]["content"] == "Hi"
    await asyncio.sleep(0)
    sink.fail(EngineError("Nobody waits."))
    assert first == "gone" or connection.gone.cancelled(), "nobody waits for the client to go"


@pytest.mark.parametrize("fails", [False, True])
async def test_whoever_iterates_gets_every_event_and_then_the_end(fails: bool) -> None:
    sink = EventSink()
    sink.feed(Delta(0, [Content("a"), Content("b")], ()), 0)
    sink.feed(Delta(0, [], (), finish=Finish("stop")), 0)
    sink.fail(EngineError("Gone.")) if fails else sink.finish()
    found: list[Any] = []
    with pytest.raises(EngineError) if fails else nullcontext():
        async for event in sink:
            found.append(event)
    assert found == [Content("a"), Content("b"), Finish("stop")]
