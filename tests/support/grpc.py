"""A gRPC server in this process and loop, over the replay engine: which answer a call gets stands in its prompt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from portico.engines import EngineInfo
from portico.engines.replay import ReplayEngine, Script
from portico.engines.resuming import EVERYTHING
from portico.engines.shared import Hub
from portico.events import EngineRequest
from portico.keys import Key
from portico.keys.audit import Audit
from portico.server.grpc.server import GrpcServer, Tls
from portico.server.grpc.services import grpc_server
from portico.server.grpc.steps import StepsService
from portico.server.http.auth import Keys
from portico.server.http.gate import Gate
from portico.server.line.line import Line
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer, Offers
from portico.server.line.served import Served
from portico.server.observe.metrics import Metrics
from support.generation import tiny_model, tiny_tokenizer


@dataclass
class Calling:
    """A server that is up, and a channel to it. ``requests`` is what its engine was given."""

    port: int
    channel: grpc.aio.Channel
    server: GrpcServer
    line: Line
    engine: ReplayEngine
    requests: list[EngineRequest] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def drain(self) -> None:
        self.line.drain()


@asynccontextmanager
async def calling(
    answers: Mapping[str, str | Script],
    *,
    keys: Sequence[str] = (),
    people: Sequence[Key] = (),
    tls: Tls | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    interval: float = 0.0,
    tokens_per_step: int = 3,
    max_message: int = 1 << 20,
    port: int = 0,
    max_in_flight: int = 1024,
    max_per_key: int | None = None,
    audit: Audit | None = None,
    resumes: Collection[str] = EVERYTHING,
    capabilities: frozenset[str] = frozenset({"generate", "logprobs", "constraints", "embed"}),
    **model: Any,
) -> AsyncIterator[Calling]:
    """Serve ``answers`` (name -> the model's text): a call gets the one whose ``[[name]]`` stands last in its prompt,
    or the first. Further arguments are facts of the model, such as ``tool_parser``."""
    engine, requests = _playing(answers, interval, tokens_per_step, resumes, capabilities)
    metrics = Metrics()
    line = Line(engine, metrics)
    await line.start()
    facts: dict[str, Any] = {"capabilities": capabilities, "embedding_size": 16, **model}
    own = tiny_model(**facts)
    served = Served(Offers([Offer.standing(ServedModel(own, [own.name], line))]))
    gate = Gate(max_in_flight, max_per_key)
    door = Keys(keys)
    door.accept(people, "store")
    where: dict[str, Any] = {"host": "127.0.0.1", "port": port, "max_message": max_message, "tls": tls}
    server = grpc_server(served, door, metrics, gate, audit, **where)
    await server.start()
    target = f"localhost:{server.port}"
    options = [("grpc.max_receive_message_length", -1)]
    channel = (
        grpc.aio.insecure_channel(target, options)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials, options)
    )
    try:
        yield Calling(server.port, channel, server, line, engine, requests)
    finally:
        await channel.close()
        served.drain()
        await server.stop(0)
        await line.close()


@dataclass
class Hosting:
    """An engine that is hosted without a front door."""

    port: int
    server: GrpcServer
    hub: Hub
    engine: ReplayEngine
    requests: list[EngineRequest]

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def drain(self) -> None:
        self.hub.drain()


@asynccontextmanager
async def hosting(
    answers: Mapping[str, str | Script],
    *,
    keys: Sequence[str] = (),
    tls: Tls | None = None,
    interval: float = 0.0,
    tokens_per_step: int = 3,
    port: int = 0,
    resumes: Collection[str] = EVERYTHING,
    capabilities: frozenset[str] = frozenset({"generate", "logprobs", "constraints", "embed"}),
    name: str = "tiny",
) -> AsyncIterator[Hosting]:
    """Host an engine that gives ``answers`` as ``calling`` does."""
    engine, requests = _playing(answers, interval, tokens_per_step, resumes, capabilities, name)
    hub = Hub(engine)
    steps = StepsService(hub, tiny_tokenizer()).service
    server = GrpcServer(
        [steps], Keys(keys), lambda: engine.healthy, host="127.0.0.1", port=port, max_message=1 << 20, tls=tls
    )
    await server.start()
    try:
        yield Hosting(server.port, server, hub, engine, requests)
    finally:
        await server.stop(0)
        await hub.close()
        await engine.close()


def _playing(
    answers: Mapping[str, str | Script],
    interval: float,
    tokens_per_step: int,
    resumes: Collection[str],
    capabilities: frozenset[str],
    name: str = "tiny",
) -> tuple[ReplayEngine, list[EngineRequest]]:
    """The engine, and what it was given so far."""
    tokenizer = tiny_tokenizer()
    scripts = {name: Script(tokenizer.encode(one)) if isinstance(one, str) else one for name, one in answers.items()}
    requests: list[EngineRequest] = []

    def choose(request: EngineRequest) -> Script:
        requests.append(request)
        prompt = tokenizer.decode(request.token_ids, skip_special_tokens=False)
        last = max(scripts, key=lambda name: prompt.rfind(f"[[{name}]]"))
        return scripts[last] if f"[[{last}]]" in prompt else next(iter(scripts.values()))

    info = EngineInfo(name, 4096, tokenizer.vocab_size, capabilities, embedding_size=16, resumes=frozenset(resumes))
    return ReplayEngine(choose=choose, tokens_per_step=tokens_per_step, interval=interval, info=info), requests
