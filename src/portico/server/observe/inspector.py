"""The inspector: records requests, and has what its page shows of them (see ``portico.server.http.pages``).

With ``--inspect`` every request that does work is recorded, else only one that asks for it with ``X-Portico-Trace: 1``,
where ``--trace-header`` lets it. A recorded request's response names its trace in ``X-Portico-Trace-Id``.

With files (``--inspect-log``, or several workers) what other processes have recorded is shown too: in the list from its
beginning, its artifacts when it is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Mapping, MutableMapping
from copy import copy
from functools import partial
from typing import Any

import msgspec
import orjson

from portico.errors import NotFoundError, PorticoError
from portico.protocols import sse
from portico.server.http.app import Methods, Outcome
from portico.server.http.auth import PROBES
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.server.observe.export import exported, facts
from portico.server.observe.trace_files import TraceFiles
from portico.threads import Threads
from portico.trace import Head, Recorder, Trace

__all__ = ["Inspector"]

log = logging.getLogger("portico")

_FILES = Threads("traces", 1, waiting=1024)

UNRECORDED = (
    *PROBES,
    *("/version", "/metrics", "/openapi.json", "/v1/models"),
    *("/inspect", "/play", "/batches", "/assets"),
)
BATCH_SECONDS = 0.05  # what comes within it goes to a follower in one event
LOOK_SECONDS = 0.5  # between two looks at what others record
SILENCE_SECONDS = 10.0


class Inspector:
    """Observes requests (see ``portico.server.http.app.Observer``) and has the handlers that show them.

    ``about`` are facts of the server that go into every export; ``files`` are where traces are kept, beside memory.
    """

    def __init__(
        self,
        recorder: Recorder,
        served: Served,
        *,
        everything: bool,
        about: Mapping[str, Any] | None = None,
        files: TraceFiles | None = None,
    ) -> None:
        self._recorder = recorder
        self._served = served
        self._everything = everything
        self._files = files
        self._writing: set[asyncio.Future[None]] = set()
        self._about = about

    # -- recording ----------------------------------------------------------------------------------------------------

    def begun(self, exchange: Exchange) -> None:
        """Begin a trace where one is wanted."""
        if (
            exchange.path == "/"
            or exchange.path.startswith(UNRECORDED)
            or not (self._everything or exchange.headers.get(b"x-portico-trace") == b"1")
        ):
            return
        trace = self._recorder.begin(
            exchange.request_id, exchange.method, exchange.path, exchange.headers, exchange.started
        )
        exchange.trace = trace
        if self._files is not None:
            self._write(partial(self._files.begin, copy(trace.head)))
        exchange.onlookers.append(trace)
        exchange.response_headers.append((b"x-portico-trace-id", trace.head.id.encode("ascii")))
        exchange.receive, exchange.send = _receiving(exchange, trace), _sending(exchange, trace)

    def refused(self, exchange: Exchange, error: PorticoError, raised: BaseException) -> None:
        """Say which layer refused."""
        if exchange.trace is not None:
            exchange.trace.faulty(error, raised)

    def ended(self, exchange: Exchange, outcome: Outcome, cause: str) -> None:
        """The trace is complete."""
        trace = exchange.trace
        if trace is not None:
            trace.head.request_id = exchange.request_id
            for name, began, ended in exchange.stages:
                trace.head.stages[name] = trace.head.stages.get(name, 0.0) + ended - began
            trace.ended("failed" if outcome == "ok" and trace.head.error is not None else outcome)
            if self._files is not None:
                self._write(partial(self._keep, self._files, trace))

    def _keep(self, files: TraceFiles, trace: Trace) -> None:
        files.end(trace.head, exported(trace, facts(self._served, self._about)))

    def _write(self, work: Callable[[], None]) -> None:
        """In a thread, one after the other; a directory that cannot be written costs its traces and nothing else."""
        writing = asyncio.ensure_future(_FILES.run(work))
        self._writing.add(writing)
        writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled() and (error := writing.exception()) is not None:
            log.warning("a trace was not written: %s", error)

    # -- showing ------------------------------------------------------------------------------------------------------

    def routes(self) -> dict[str, Methods]:
        """The paths of the inspector; the list of everybody's requests only where all are recorded."""
        one: dict[str, Methods] = {
            "/inspect/traces/{id}": {"GET": self.show},
            "/inspect/traces/{id}/live": {"GET": self.follow},
        }
        if not self._everything:
            return one
        return {
            "/inspect/traces": {"GET": self.show_all},
            "/inspect/live": {"GET": self.follow_all},
            **one,
        }

    async def show_all(self, exchange: Exchange) -> None:
        """The recorded requests, the newest first."""
        own = self._recorder.heads
        heads = [*own, *await self._others({head.id for head in own})]
        heads.sort(key=lambda head: head.began, reverse=True)
        await exchange.respond_json({"traces": [msgspec.to_builtins(head) for head in heads]})

    async def show(self, exchange: Exchange) -> None:
        """One recorded request with every artifact, and what a replay needs beside them."""
        trace = self._recorder.get(exchange.path_params["id"])
        if trace is not None:
            await exchange.respond_json(exported(trace, facts(self._served, self._about)))
        else:
            await exchange.respond(200, await self._read((await self._find(exchange)).id))

    async def follow_all(self, exchange: Exchange) -> None:
        """Requests as they begin, change and end, as server-sent events."""
        changed = asyncio.Event()
        waiting: dict[str, Head] = {}

        def listen(head: Head) -> None:
            waiting[head.id] = head
            changed.set()

        def batch() -> bytes:
            heads = list(waiting.values())
            waiting.clear()
            return b"".join(_event({"trace": msgspec.to_builtins(head)}) for head in heads)

        looking = asyncio.create_task(self._look(listen))
        try:
            await self._follow(exchange, changed, self._recorder.listen(listen), batch, lambda: False)
        finally:
            looking.cancel()

    async def _look(self, listen: Callable[[Head], None]) -> None:
        """Tell what others begin and end, until cancelled."""
        known: dict[str, Head] = {}
        first = True
        while self._files is not None:
            for head in await self._others({head.id for head in self._recorder.heads}):
                if known.get(head.id) != head and not first:
                    listen(head)
                known[head.id] = head
            first = False
            await asyncio.sleep(LOOK_SECONDS)

    async def follow(self, exchange: Exchange) -> None:
        """One request's artifacts so far, then those that come, as server-sent events."""
        trace = self._recorder.get(exchange.path_params["id"])
        if trace is None:
            await self._follow_another(exchange, await self._find(exchange))
            return
        changed = asyncio.Event()
        sent = 0

        def batch() -> bytes:
            nonlocal sent
            new = {artifact.id: artifact for artifact in trace.log[sent:]}
            sent = len(trace.log)
            found = _event({"artifacts": [trace.shown(artifact) for artifact in new.values()]}) if new else b""
            return found + _event({"trace": msgspec.to_builtins(trace.head)})

        await self._follow(exchange, changed, trace.follow(changed.set), batch, lambda: trace.head.state != "open")

    async def _follow(
        self,
        exchange: Exchange,
        changed: asyncio.Event,
        unfollow: Callable[[], None],
        batch: Callable[[], bytes],
        over: Callable[[], bool],
    ) -> None:
        """Send ``batch()`` whenever something has changed, until it is over, the client goes or the server stops."""
        gone = asyncio.ensure_future(exchange.disconnected())
        ending = asyncio.ensure_future(self._served.until_draining())
        for reason in (gone, ending):
            reason.add_done_callback(lambda _: changed.set())
        try:
            await exchange.start_stream(sse.MEDIA_TYPE)
            silent = 0.0
            data = batch()
            asked = exchange.method != "HEAD"
            while asked and not (gone.done() or ending.done() or over()):
                if data:
                    await exchange.send({"type": "http.response.body", "body": data, "more_body": True})
                data = b""
                try:
                    await asyncio.wait_for(changed.wait(), 1.0)
                except TimeoutError:
                    silent += 1.0
                    if silent >= SILENCE_SECONDS:
                        silent, data = 0.0, sse.KEEP_ALIVE
                    continue
                await asyncio.sleep(BATCH_SECONDS)
                changed.clear()
                silent, data = 0.0, batch()
            await exchange.send({"type": "http.response.body", "body": data + batch()})
        finally:
            unfollow()
            gone.cancel()
            ending.cancel()

    async def _follow_another(self, exchange: Exchange, head: Head) -> None:
        """A request of another process: all of it when it is over."""
        changed = asyncio.Event()
        found: dict[str, Any] = {}

        async def wait() -> None:
            while not found:
                if content := await self._content(head.id):
                    found.update(orjson.loads(content))
                    changed.set()
                else:
                    await asyncio.sleep(LOOK_SECONDS)

        def batch() -> bytes:
            return _event({"artifacts": found["artifacts"]}) + _event({"trace": found["trace"]}) if found else b""

        waiting = asyncio.create_task(wait())
        try:
            await self._follow(exchange, changed, lambda: None, batch, lambda: bool(found))
        finally:
            waiting.cancel()

    # -- what others have recorded ------------------------------------------------------------------------------------

    async def _others(self, own: Container[str]) -> list[Head]:
        """The requests that are not in memory here."""
        if self._files is None:
            return []
        return [head for head in await _FILES.run(self._files.heads) if head.id not in own]

    async def _find(self, exchange: Exchange) -> Head:
        id = exchange.path_params["id"]
        head = await _FILES.run(partial(self._files.find, id)) if self._files is not None else None
        if head is None:
            raise NotFoundError("There is no such trace; only the last requests are kept.", code="trace_not_found")
        return head

    async def _content(self, id: str) -> bytes | None:
        return await _FILES.run(partial(self._files.read, id)) if self._files is not None else None

    async def _read(self, id: str) -> bytes:
        content = await self._content(id)
        if content is None:
            raise NotFoundError("This request has not ended; it is shown when it has.", code="trace_not_found")
        return content


def _event(value: Any) -> bytes:
    return sse.event(orjson.dumps(value))


def _receiving(exchange: Exchange, trace: Trace) -> Callable[[], Any]:
    receive = exchange.receive

    async def received() -> MutableMapping[str, Any]:
        message = await receive()
        if message["type"] == "http.request":
            trace.received(message.get("body", b""), not message.get("more_body", False))
        return message

    return received


def _sending(exchange: Exchange, trace: Trace) -> Callable[[MutableMapping[str, Any]], Any]:
    send = exchange.send

    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            trace.started(message["status"], message["headers"])
        elif message["type"] == "http.response.body":
            trace.sent(message.get("body", b""), not message.get("more_body", False))
        await send(message)

    return sent
