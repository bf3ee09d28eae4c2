"""What the handlers of every protocol share: admit, answer, and say what was passed over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from portico.errors import BadRequestError
from portico.generation import Generation, Model
from portico.prompting import Prompt
from portico.protocols.encoders import BodyEncoder, StreamEncoder
from portico.protocols.openai import chat, completions
from portico.protocols.openai.sampling import cut_to
from portico.protocols.openai.schema import ChatRequest, CompletionRequest
from portico.protocols.warnings import LEFT_OUT, NOT_ENFORCED, UNKNOWN_FIELDS, warning
from portico.server.http.exchange import ClientGoneError, Exchange
from portico.server.line.flight import Flight, Sink
from portico.server.line.model import ServedModel
from portico.server.line.served import Served, Wanted
from portico.server.line.sinks import BodySink, StreamSink
from portico.server.routes.attachments import prompt_with_files
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.store import Store

__all__ = [
    "LEFT_OUT",
    "UNKNOWN_FIELDS",
    "admitted",
    "answer_body",
    "answer_stream",
    "chat_prompt",
    "completion_prompts",
    "decided",
    "model_for",
    "warn",
]

MOST_RANKS = 1 << 16
LAST = 1_000_000  # the priority of what nobody waits for; lower is served first
LONGEST_NUMBER = 20  # digits and sign


Around = Callable[[Sink], Sink]


def _itself(sink: Sink) -> Sink:
    return sink


async def answer_stream(
    exchange: Exchange,
    served: Served,
    by: ServedModel,
    generations: list[Generation],
    encoder: StreamEncoder,
    around: Around = _itself,
) -> None:
    """Admit, then stream. What is refused is refused before the first byte; a client that goes aborts.

    ``around`` puts something between the line and the connection; then the answer is no run, however it was asked for.
    """
    decided(exchange, generations)
    for onlooker in exchange.onlookers:
        encoder = onlooker.stream(encoder)
    if around is _itself and served.runs.grace and exchange.headers.get(b"x-portico-resume") == b"1":
        await _answer_run(exchange, served, by, encoder)
        return
    sink = StreamSink(encoder)
    flight = await admitted(exchange, served, by, around(sink))
    try:
        await sink.open(exchange)
        with by.line.meter.streaming():
            await exchange.disconnected()
        if not flight.over:
            raise ClientGoneError
    finally:
        by.line.abort(flight)


async def _answer_run(exchange: Exchange, served: Served, by: ServedModel, encoder: StreamEncoder) -> None:
    """As a run: the answer goes on for a while when its client is gone, and may be read again."""
    run = served.runs.begin(encoder, CALLER.get())
    try:
        flight = await admitted(exchange, served, by, run)
    except BaseException:
        served.runs.end(run)
        raise
    run.stop = partial(by.line.abort, flight)
    exchange.response_headers.append((b"x-portico-run", run.id.encode("ascii")))
    with by.line.meter.streaming():
        await run.read(exchange)
    if not flight.over:
        raise ClientGoneError


async def answer_body(
    exchange: Exchange,
    served: Served,
    by: ServedModel,
    generations: list[Generation],
    encoder: BodyEncoder,
    around: Around = _itself,
) -> None:
    """Admit, wait for the whole answer, send it."""
    decided(exchange, generations)
    for onlooker in exchange.onlookers:
        encoder = onlooker.body(encoder)
    sink = BodySink(encoder)
    flight = await admitted(exchange, served, by, around(sink))
    try:
        body = await sink.body(exchange)
    finally:
        by.line.abort(flight)
    await exchange.respond(200, body)


def decided(exchange: Exchange, generations: list[Generation]) -> None:
    """All is decided; say what of the request's schemas is not held."""
    exchange.decided(*generations)
    warn(exchange, NOT_ENFORCED, (words for one in generations for words in one.spec.left_out))


async def admitted(exchange: Exchange, served: Served, by: ServedModel, sink: Sink) -> Flight:
    """The flight of the exchange's generations, taken by the engine. Raises where it is refused."""
    _heed_headers(exchange)
    if exchange.later:
        for generation in exchange.generations:
            generation.spec = replace(generation.spec, priority=LAST)
    watches = [onlooker.watch for onlooker in exchange.onlookers]
    timeout = None if exchange.later else served.request_timeout
    flight = Flight(exchange.generations, sink, timeout, watches, exchange.later)
    if not by.knows(flight.generations):
        await exchange.while_there(by.check(flight.generations))
    exchange.checked()
    await by.line.admit(flight)
    exchange.admitted(flight)
    by.line.meter.waits(exchange.later).prepare.observe(time.perf_counter() - exchange.started)
    return flight


def _heed_headers(exchange: Exchange) -> None:
    """What headers known from vLLM say of a request's place at the engine; they go before the body's fields."""
    rank = _integer(exchange, b"x-data-parallel-rank", 0, MOST_RANKS - 1)
    priority = _integer(exchange, b"x-vllm-priority", -(1 << 63), (1 << 63) - 1)
    if rank is None and priority is None:
        return
    for generation in exchange.generations:
        spec = generation.spec
        generation.spec = replace(
            spec, data_parallel_rank=rank, priority=spec.priority if priority is None else priority
        )


def _integer(exchange: Exchange, name: bytes, least: int, most: int) -> int | None:
    text = exchange.header(name)
    if text is None:
        return None
    try:
        value = int(text) if len(text) <= LONGEST_NUMBER else most + 1
    except ValueError:
        value = most + 1
    if not least <= value <= most:
        shown = name.decode()
        raise BadRequestError(f"The header '{shown}' must be a whole number, at least {least}.", param=shown)
    return value


def warn(exchange: Exchange, what: str, names: Iterable[str]) -> None:
    """Say in a response header what of the request was passed over."""
    if told := warning(what, names):
        exchange.response_headers.append((b"x-portico-warning", told.encode("ascii")))


async def model_for(exchange: Exchange, wanted: Wanted) -> ServedModel:
    """The wanted model, which stays loaded until the exchange is over; waits where it is to be loaded first."""
    if wanted.loaded:
        return wanted.now(exchange.place)
    return await exchange.while_there(wanted.get(exchange.place))


async def chat_prompt(exchange: Exchange, request: ChatRequest, model: Model, store: Store | None) -> Prompt:
    """The prompt of a conversation, tokenized; the files that it names are those of ``store``."""
    prompt = await exchange.wait(prompt_with_files(model, chat.prompt_arguments(request), store))
    return cut_to(request, prompt, model, request.most_tokens)


async def completion_prompts(exchange: Exchange, request: CompletionRequest, model: Model) -> list[Prompt]:
    """The prompts of a completion, tokenized."""
    special = request.add_special_tokens is not False
    to_be_cut = request.truncate_prompt_tokens is not None
    prompter = model.prompter
    prompts = []
    for given in await exchange.work(partial(completions.prompts, request, model)):
        if request.suffix and isinstance(given, str):
            prompt = await exchange.wait(prompter.infill(given, request.suffix))
        else:
            prompt = await exchange.wait(prompter.completion(given, add_special_tokens=special, to_be_cut=to_be_cut))
        prompts.append(cut_to(request, prompt, model, request.max_tokens))
    return prompts
