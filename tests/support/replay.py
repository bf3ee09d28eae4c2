"""A real HTTP server in this process, over the replay engine: which answer a request gets stands in its prompt."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from portico.constraints import Checker
from portico.engines import EngineInfo
from portico.engines.replay import Script
from portico.engines.resuming import EVERYTHING
from portico.events import EngineOutput, EngineRequest
from portico.keys import Key
from portico.keys.accounts import Accounts
from portico.prompting import ChatTemplate, Prompter
from portico.server.batches.runner import Runner
from portico.server.http.app import Observer, build_app
from portico.server.http.auth import OPEN_PATHS, Keys
from portico.server.http.connection import connections
from portico.server.http.gate import Gate
from portico.server.http.pages import PAGES, Pages
from portico.server.line.line import Line
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer, Offers
from portico.server.line.served import FileBounds, Served
from portico.server.observe.inspector import Inspector
from portico.server.observe.metrics import Metrics
from portico.server.routes.paths import routes
from portico.store import open_store
from portico.trace import Recorder
from support.generation import tiny_model, tiny_tokenizer, tiny_vocabulary
from support.mortal import MortalEngine

TEMPLATE = """
{%- for tool in tools or [] %}[tool {{ tool.function.name }}]{{ tool | tojson }}
{% endfor %}
{%- for m in messages %}<|{{ m.role }}|>
{%- if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}
{%- if m.content is string %}{{ m.content }}
{%- else %}{% for part in m.content or [] %}{{ part.text }}{% endfor %}{% endif %}
{%- for call in m.tool_calls or [] %}
{%- set f = call.function %}[call {{ call.id }} {{ f.name }} {{ f.arguments | tojson }}]{% endfor %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>
{%- if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}
"""


@dataclass
class Replaying:
    """A server that is up. ``prompts`` is what its engine was given, as text, and ``requests`` as it was given it;
    ``connections`` counts those that are open."""

    url: str
    prompts: list[str] = field(default_factory=list)
    requests: list[EngineRequest] = field(default_factory=list)
    door: Keys = field(default_factory=Keys)
    connections: Callable[[], int] = int


@contextmanager
def replaying(
    answers: Mapping[str, str | Script],
    *,
    template: str = TEMPLATE,
    keys: Sequence[str] = (),
    people: Sequence[Key] = (),
    clock: Callable[[], float] = time.time,
    names: Sequence[str] = ("tiny",),
    adapters: Sequence[str] = (),
    patterns: Sequence[str] = (),
    max_body: int = 32 << 20,
    max_in_flight: int = 64,
    max_per_key: int | None = None,
    max_header: int = 64 << 10,
    client_timeout: float = 600.0,
    request_timeout: float | None = 600.0,
    keep_alive: float = 15.0,
    interval: float = 0.0,
    turns: threading.Semaphore | None = None,
    signing_key: str | None = "a secret",
    context_length: int = 1 << 20,
    capabilities: frozenset[str] = frozenset({"generate", "logprobs", "constraints"}),
    checked: bool = False,
    embedding_size: int | None = None,
    inspect: bool = False,
    trace_header: bool = False,
    redact: bool = False,
    keep: int = 200,
    resume_grace: float = 0.0,
    store: str | None = None,
    file_bounds: FileBounds | None = None,
    mcp_allow: Sequence[str] = (),
    lives: Sequence[int] = (),
    batch_lines: int = 8,
    observers: Sequence[Observer] = (),
    host: str = "127.0.0.1",
    cors_origins: Sequence[str] = (),
    **model: Any,
) -> Iterator[Replaying]:
    """Serve ``answers`` (name -> the model's text): a request gets the one whose ``[[name]]`` stands last in its
    prompt, or the first. ``keys`` are secrets, ``people`` keys with names, and ``clock`` is theirs. ``adapters`` are
    further models of the same engine. ``checked`` has grammars tried out, in a process of its own. The engine has
    ``lives`` (see ``MortalEngine``); with ``turns`` it makes as many steps as it is released for. Further arguments are
    facts of the model, such as ``tool_parser``."""
    tokenizer = tiny_tokenizer()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that nothing waits for more
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    found = Replaying(f"http://127.0.0.1:{listener.getsockname()[1]}")
    scripts = {name: Script(tokenizer.encode(one)) if isinstance(one, str) else one for name, one in answers.items()}

    def choose(request: EngineRequest) -> Script:
        prompt = tokenizer.decode(request.token_ids, skip_special_tokens=False)
        found.prompts.append(prompt)
        found.requests.append(request)
        last = max(scripts, key=lambda name: prompt.rfind(f"[[{name}]]"))
        return scripts[last] if f"[[{last}]]" in prompt else next(iter(scripts.values()))

    info = EngineInfo(
        "tiny",
        context_length,
        tokenizer.vocab_size,
        capabilities,
        frozenset(),
        embedding_size=embedding_size,
        resumes=EVERYTHING,
    )
    engine = _Released(turns, choose=choose, lives=lives, tokens_per_step=3, interval=interval, info=info)
    prompter = Prompter(
        tokenizer,
        ChatTemplate(template, tokenizer.special_tokens),
        modalities=("image",) if "vision" in capabilities else (),
    )
    facts = {
        "prompter": prompter,
        "context_length": context_length,
        "capabilities": capabilities,
        "embedding_size": embedding_size,
    }
    up = threading.Event()
    stop: list[Any] = []

    async def main() -> None:
        metrics = Metrics()
        line = Line(engine, metrics, max_in_flight=max_in_flight, keep_alive=keep_alive)
        await line.start()
        kept = open_store(store) if store is not None else None
        if kept is not None:
            await kept.start()
        base = tiny_model(name=names[0], **facts, **model)
        adapted = [replace(base, name=adapter, parent=base.name) for adapter in adapters]
        model_served = ServedModel(
            base, names, line, Checker(tiny_vocabulary()) if checked else None, adapted, patterns
        )
        served = Served(
            Offers([Offer.standing(model_served)]),
            request_timeout,
            signing_key=signing_key,
            resume_grace=resume_grace,
            store=kept,
            mcp_allow=mcp_allow,
            file_bounds=file_bounds,
        )
        gate = Gate(max_in_flight, max_per_key, Accounts(clock=clock))
        door = found.door = Keys(keys, OPEN_PATHS | PAGES, clock)
        door.accept(people, "store")
        inspectors = []
        if inspect or trace_header:
            recorder = Recorder(time.perf_counter, time.time, keep=keep, redact=redact)
            inspectors = [Inspector(recorder, served, everything=inspect)]
        every = routes(served, metrics, Pages(inspect=inspect), inspectors[0].routes() if inspectors else None)
        app = build_app(
            every,
            door,
            gate,
            max_body=max_body,
            host=host,
            cors_origins=cors_origins,
            observers=[metrics, *inspectors, *observers],
        )
        runner = (
            Runner(kept, app, served, lambda: door.callers or [""], batch_lines, metrics) if kept is not None else None
        )
        if runner is not None:
            runner.start()
        http = connections(max_head=max_header, max_body=max_body, client_timeout=client_timeout)
        config = uvicorn.Config(
            app, http=http, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
        )
        server = _Prompt(config)
        loop = asyncio.get_running_loop()

        def end() -> None:
            served.drain()  # who follows what is recorded is told to go
            server.ended.set()

        stop.append(lambda: loop.call_soon_threadsafe(end))
        serving = asyncio.create_task(server.serve([listener]))
        await server.ready.wait()
        found.connections = lambda: len(server.server_state.connections)
        up.set()
        await serving
        if runner is not None:
            await runner.close()
        await line.close()
        if kept is not None:
            await kept.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert up.wait(120)
    try:
        yield found
    finally:
        stop[0]()
        thread.join(120)
        listener.close()


class _Prompt(uvicorn.Server):
    """Begins and ends when it can; uvicorn looks ten times a second, and rests before it ends."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready, self.ended = asyncio.Event(), asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self.ready.set()
        await self.ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110  (uvicorn's are sets)
            await asyncio.sleep(0.005)


class _Released(MortalEngine):
    """With ``turns`` it makes as many steps as it is released for, at once, and looks a hundred times a second."""

    def __init__(self, turns: threading.Semaphore | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._turns = turns

    def _step(self, who: Any) -> list[EngineOutput]:
        if self._turns is not None:
            released = self._turns.acquire(blocking=False)
            self._interval = 0.0 if released else 0.01
            if not released:
                return []
        return super()._step(who)


@contextmanager
def stepwise(
    answers: Mapping[str, Any], directory: Path, batch_lines: int = 3
) -> Iterator[tuple[Replaying, httpx.Client, threading.Semaphore]]:
    """A server with a store, a client, and the semaphore whose releases are the steps that its engine makes."""
    turns = threading.Semaphore(0)
    with (
        replaying(answers, store=str(directory / "a.db"), turns=turns, batch_lines=batch_lines) as up,
        httpx.Client(base_url=up.url, timeout=600) as client,
    ):
        yield up, client, turns
