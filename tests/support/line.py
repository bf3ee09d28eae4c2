"""A line over an engine that the test holds in its hand; all that it tells is kept. Time passes as the test says."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from portico.engines import EmbeddingBatch, EngineInfo
from portico.engines.resuming import EVERYTHING
from portico.errors import EngineError, PorticoError
from portico.events import Content, EngineOutput, EngineRequest, SamplingParams
from portico.generation import Delta, Generation, GenerationSpec
from portico.server.line.flight import Flight, Route
from portico.server.line.line import Line
from portico.server.line.meter import Waits
from support.generation import tiny_model

MODEL = tiny_model()
PROMPT = (1, 2, 3)


class Told(list[Any]):
    """A meter, and each of its timers: what it was told, in order."""

    def __init__(self) -> None:
        self.of: dict[bool, Waits] = {}
        self.step = Times()
        self.measure: Any = Watching()

    def waits(self, later: bool) -> Waits:
        return self.of.setdefault(later, Waits(Times(), Times(), Times()))

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given: self.append((name, *given))


class Times(list[float]):
    observe = list.append


class Watching:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = defaultdict(list)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given: self.seen[name].append(given)


class Hand:
    """An engine that gives what the test hands it."""

    def __init__(self, capabilities: Sequence[str] = ("generate", "embed")) -> None:
        info = {"model": "engine's own", "vocab_size": 300, "capabilities": frozenset(capabilities)}
        self.info = EngineInfo(context_length=2000, resumes=EVERYTHING, **info)  # type: ignore[arg-type]
        self.healthy = True
        self.requests: list[EngineRequest] = []
        self.aborted: list[str] = []
        self.given: asyncio.Queue[list[EngineOutput] | Exception | None] = asyncio.Queue()
        self.taking: Callable[[EngineRequest], None] = lambda request: None
        self.life: list[str] = []

    async def start(self) -> None:
        self.life.append("start")

    async def close(self) -> None:
        self.life.append("close")
        self.given.put_nowait(None)

    async def submit(self, request: EngineRequest) -> None:
        self.taking(request)
        self.requests.append(request)

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        while (found := await self.given.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        if not token_id_lists:
            raise EngineError("Nothing to embed.")
        return EmbeddingBatch(None, [len(ids) for ids in token_id_lists])  # type: ignore[arg-type]


class Sink:
    """Keeps what it gets; ``fails`` at the text of that name."""

    def __init__(self, fails: str = "") -> None:
        self.got: list[Any] = []
        self.stalled = False
        self.fails = fails

    def feed(self, delta: Delta, position: int) -> None:
        text = "".join(event.text for event in delta.events if type(event) is Content)
        if self.fails and self.fails in text:
            raise ValueError("bad")
        self.got.append((position, delta.index, text))

    def flush(self) -> None:
        self.got.append("flush")

    def finish(self) -> None:
        self.got.append("finish")

    def fail(self, error: PorticoError) -> None:
        self.got.append(error)

    def keep_alive(self) -> None:
        self.got.append("comment")

    @property
    def errors(self) -> list[tuple[type[PorticoError], str]]:
        return [(type(one), one.message) for one in self.got if isinstance(one, PorticoError)]


class Remembered(Flight):
    """A flight that tells its routes when it is over, too."""

    _routes: list[Route]

    @property  # type: ignore[override]
    def routes(self) -> list[Route]:
        return self._routes

    @routes.setter
    def routes(self, routes: list[Route]) -> None:
        if not self.over:
            self._routes = routes


class House:
    """A line that has started, over all of these; ``now`` is its loop's time."""

    def __init__(self, capabilities: Sequence[str] = ("generate", "embed"), **more: Any) -> None:
        self.engine, self.told = Hand(capabilities), Told()
        self.now = 1000.0
        asyncio.get_running_loop().time = lambda: self.now  # type: ignore[method-assign]
        self.line = Line(self.engine, self.told, **more)
        self._number = 0

    async def __aenter__(self) -> House:
        await self.line.start()
        await turns()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.line.close()

    def flight(self, sink: Sink | None = None, of: int = 1, spec: Any = None, **more: Any) -> Flight:
        generations = []
        for _ in range(of):
            self._number += 1
            facts = {"request_id": f"r{self._number}", "prompt_ids": PROMPT, **(spec or {})}
            facts.setdefault("sampling", SamplingParams(max_tokens=50))
            generations.append(Generation(GenerationSpec(**facts), MODEL.tokenizer))
        return Remembered(generations, sink or Sink(), **more)

    async def give(self, *outputs: EngineOutput, after: float = 1.0) -> None:
        """A step, so many seconds later than anything before it."""
        await self.passes(after)
        self.engine.given.put_nowait(list(outputs))
        await turns()

    async def passes(self, seconds: float) -> None:
        self.now += seconds
        await turns()


async def turns() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def asked(flight: Flight) -> list[str]:
    """The ids that its choices were first asked of the engine by."""
    return [request_id for generation in flight.generations for request_id in generation.engine_ids]


def output(flight: Flight, text: str = "", end: Any = None, of: int = 0, **more: Any) -> EngineOutput:
    request_id = flight.routes[of].request.request_id if flight.routes else asked(flight)[of]
    return EngineOutput(request_id, MODEL.tokenizer.encode(text), finish_reason=end, **more)
