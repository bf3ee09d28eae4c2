"""The calls of the gRPC services: parse, prepare, admit, answer, on the same line that HTTP uses.

A service is an object with a coroutine per call, named as in the ``.proto`` file. A unary call returns its response, a
streaming one, once the engine has taken the request, an async iterator with ``aclose``. Errors are raised as
``PorticoError``; the server gives them their status.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timezone
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from portico import __version__
from portico.engines import EmbeddingBatch, FlushesCache
from portico.errors import PorticoError
from portico.generation import Delta, Generation, Model
from portico.prompting import Prompt
from portico.protocols.grpc import inference, vllm_engine
from portico.protocols.grpc.tokenizer_files import tokenizer_zip
from portico.protocols.openai import chat, completions, embeddings
from portico.protos import inference_pb2 as pb
from portico.protos import smg_common_pb2 as common
from portico.protos import vllm_engine_pb2 as engine
from portico.server.line import Flight
from portico.server.served import Served, ServedModel

__all__ = ["InferenceService", "MessageSink", "VllmEngineService"]

CHUNK = 64 << 10  # bytes of a tokenizer's zip file in one message
MOST_JOINED = 256  # messages that become one for a client that lags; keeps it within clients' limits
MAX_UNREAD = 1 << 16  # messages collected for a client that does not read before its flight ends

Message = TypeVar("Message")


class Encoder(Protocol[Message]):
    """The answering half of a service: deltas -> messages."""

    def feed(self, delta: Delta) -> list[Message]: ...
    def joined(self, messages: Sequence[Message]) -> list[Message]: ...
    def aborted(self) -> list[Message]: ...


class MessageSink(Generic[Message]):
    """Collects a flight's messages for the call that sends them, joined when it comes later than they do."""

    def __init__(self, encoder: Encoder[Message]) -> None:
        self._encoder = encoder
        self._messages: list[Message] = []
        self._complete = False
        self._error: PorticoError | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def stalled(self) -> bool:
        """True when the client reads so slowly that the flight must end."""
        return len(self._messages) > MAX_UNREAD

    def feed(self, delta: Delta, position: int) -> None:
        """Encode one delta."""
        self._messages += self._encoder.feed(delta)

    def flush(self) -> None:
        """A step is over: let the call send what has come."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def finish(self) -> None:
        """Every choice is finished."""
        self._complete = True

    def fail(self, error: PorticoError) -> None:
        """The call ends with ``error``, after what has come."""
        if not self._complete:
            self._complete, self._error = True, error

    def aborted(self) -> None:
        """The client has stopped the request by another call: no error, an end."""
        if not self._complete:
            self._messages += self._encoder.aborted()
            self._complete = True
            self.flush()

    def keep_alive(self) -> None:
        """HTTP/2 has pings."""

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            batch, self._messages = self._messages, []
            for start in range(0, len(batch), MOST_JOINED):
                for message in self._encoder.joined(batch[start : start + MOST_JOINED]):
                    yield message
            if self._messages:
                continue
            if self._complete:
                if self._error is not None:
                    raise self._error
                return
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake


class Answer(Generic[Message]):
    """The messages of an admitted flight. Whoever has it closes it, which aborts what is not finished."""

    def __init__(self, served: Served, by: ServedModel, flight: Flight, sink: MessageSink[Message]) -> None:
        self.flight = flight
        self.sink = sink
        self._streams = served.metrics.streams
        self._line = by.line
        self._streams.inc()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self.sink.__aiter__()

    def stop(self) -> None:
        """End it in-band, as its client asked for by another call."""
        self._line.abort(self.flight)
        self.sink.aborted()

    async def aclose(self) -> None:
        """It is over, however it ended."""
        self._streams.dec()
        self._line.abort(self.flight)


async def _admitted(
    served: Served, by: ServedModel, generation: Generation, encoder: Encoder[Message], started: float
) -> Answer[Message]:
    """Hand the generation to the engine. What is refused is refused here."""
    sink = MessageSink(encoder)
    flight = Flight([generation], sink, served.request_timeout)
    await by.check(flight.generations)
    await by.line.admit(flight)
    served.metrics.prepare.observe(time.perf_counter() - started)
    return Answer(served, by, flight, sink)


class VllmEngineService:
    """``vllm.grpc.engine.VllmEngine`` over the first model that can do what a call asks for."""

    descriptor = engine.DESCRIPTOR.services_by_name["VllmEngine"]

    def __init__(self, served: Served) -> None:
        self._served = served
        self._started = time.time()
        self._last_request = 0.0
        self._running: dict[str, set[Running]] = {}  # by the clients' request ids

    async def Generate(self, request: engine.GenerateRequest) -> Running:
        started = time.perf_counter()
        self._last_request = time.time()
        by = self._served.generating(None)
        given = vllm_engine.prompt(request)
        ids = (await by.model.prompter.completion(given)).token_ids if isinstance(given, str) else given
        generation = vllm_engine.generation(request, ids, by.model, _new_id())
        encoder = vllm_engine.GenerateEncoder(generation, stream=request.stream)
        answer = await _admitted(self._served, by, generation, encoder, started)
        return Running(self._running, request.request_id, answer)

    async def Abort(self, request: engine.AbortRequest) -> engine.AbortResponse:
        for request_id in request.request_ids:
            for running in list(self._running.get(request_id, ())):
                running.answer.stop()
        return engine.AbortResponse()

    async def Embed(self, request: engine.EmbedRequest) -> engine.EmbedResponse:
        by = self._served.embedding(None)
        checked = embeddings.EmbeddingRequest(input=list(request.tokenized.input_ids))
        inputs = [list(one) for one in embeddings.inputs(checked, by.model) if not isinstance(one, str)]
        batch = await by.line.embed(embeddings.check_lengths(checked, inputs, by.model))
        vector = batch.vectors[0]
        return engine.EmbedResponse(
            embedding=vector.tolist(), prompt_tokens=batch.prompt_tokens[0], embedding_dim=len(vector)
        )

    async def HealthCheck(self, request: engine.HealthCheckRequest) -> engine.HealthCheckResponse:
        healthy = self._served.healthy
        return engine.HealthCheckResponse(
            healthy=healthy, message="" if healthy else "The server cannot take requests now."
        )

    async def FlushCache(self, request: common.FlushCacheRequest) -> common.FlushCacheResponse:
        able = [one.line.engine for one in self._served.models if isinstance(one.line.engine, FlushesCache)]
        if not able:
            return common.FlushCacheResponse(success=False, message="This engine has no cache that can be flushed.")
        done = all([await one.flush_cache() for one in able])
        return common.FlushCacheResponse(success=done, message="" if done else "The engine did not flush its cache.")

    async def GetModelInfo(self, request: engine.GetModelInfoRequest) -> engine.GetModelInfoResponse:
        return vllm_engine.model_info(self._model)

    async def GetServerInfo(self, request: engine.GetServerInfoRequest) -> engine.GetServerInfoResponse:
        return engine.GetServerInfoResponse(
            active_requests=sum(one.line.in_flight for one in self._served.models),
            last_receive_timestamp=self._last_request,
            uptime_seconds=time.time() - self._started,
            server_type="portico" if "structural_tags" not in self._model.capabilities else "portico structural_tags",
            data_parallel_size=self._first.line.engine.info.metadata.get("data_parallel_size", 1),
            constrained_decoding_start="first_token",
        )

    async def GetLoads(self, request: engine.GetLoadsRequest) -> engine.GetLoadsResponse:
        loads = [one.line.load for one in self._served.models]
        running, waiting = sum(one[0] for one in loads), sum(one[1] for one in loads)
        load = engine.SchedulerLoad(
            num_running_reqs=running, num_waiting_reqs=waiting, num_total_reqs=running + waiting
        )
        now = datetime.now(timezone.utc).isoformat()
        return engine.GetLoadsResponse(timestamp=now, version=__version__, dp_rank_count=1, loads=[load])

    async def GetTokenizer(self, request: common.GetTokenizerRequest) -> AsyncIterator[common.GetTokenizerChunk]:
        return _chunks(*await asyncio.get_running_loop().run_in_executor(None, lambda: self._tokenizer))

    @property
    def _first(self) -> ServedModel:
        """The model this service is about: the one that generates, else the only one there is."""
        able = [one for one in self._served.models if "generate" in one.model.capabilities]
        return able[0] if able else self._served.models[0]

    @property
    def _model(self) -> Model:
        return self._first.model

    @cached_property
    def _tokenizer(self) -> tuple[bytes, str]:
        files = tokenizer_zip(self._model.tokenizer)
        return files, hashlib.sha256(files).hexdigest()


class Running:
    """An answer that its client may stop by its own id for it."""

    def __init__(self, running: dict[str, set[Running]], request_id: str, answer: Answer[engine.GenerateResponse]):
        self.answer = answer
        self._all, self._id = running, request_id
        running.setdefault(request_id, set()).add(self)

    def __aiter__(self) -> AsyncIterator[engine.GenerateResponse]:
        return aiter(self.answer)

    async def aclose(self) -> None:
        """It is over."""
        await self.answer.aclose()
        self._all[self._id].discard(self)
        if not self._all[self._id]:
            del self._all[self._id]


class InferenceService:
    """``portico.v1.Inference``."""

    descriptor = pb.DESCRIPTOR.services_by_name["Inference"]

    def __init__(self, served: Served) -> None:
        self._served = served

    async def Chat(self, request: pb.ChatRequest) -> Answer[pb.Event]:
        started = time.perf_counter()
        checked = inference.chat_request(request)
        by = self._served.generating(checked.model)
        prompt = await by.model.prompter.chat(**chat.prompt_arguments(checked))
        generation = chat.generation(checked, prompt, by.model, _new_id())
        return await _admitted(self._served, by, generation, inference.EventEncoder(generation), started)

    async def Complete(self, request: pb.CompleteRequest) -> Answer[pb.Event]:
        started = time.perf_counter()
        by = self._served.generating(request.model or None)
        checked = inference.completion_request(request, by.model)
        (given,) = completions.prompts(checked, by.model)
        prompt: Prompt = await by.model.prompter.completion(given)
        (generation,) = completions.generations(checked, [prompt], by.model, _new_id())
        return await _admitted(self._served, by, generation, inference.EventEncoder(generation), started)

    async def Embed(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        by = self._served.embedding(request.model or None)
        checked = inference.embedding_requests(request)
        inputs: list[list[int]] = []
        for one in checked:
            for given in embeddings.inputs(one, by.model):
                prompt = await by.model.prompter.completion(given)
                inputs += embeddings.check_lengths(one, [list(prompt.token_ids)], by.model)
        batch: EmbeddingBatch = await by.line.embed(inputs)
        return inference.embed_response(embeddings.shortened(checked[0], batch.vectors), batch.prompt_tokens)

    async def CountTokens(self, request: pb.CountTokensRequest) -> pb.CountTokensResponse:
        ids: Sequence[int]
        if request.WhichOneof("input") == "chat":
            checked = inference.chat_request(request.chat)
            model = self._served.any(checked.model).model
            ids = (await model.prompter.chat(**chat.prompt_arguments(checked))).token_ids
        else:
            model = self._served.any(request.model or None).model
            ids = (await model.prompter.completion(request.text)).token_ids
        return pb.CountTokensResponse(
            tokens=len(ids), context_length=model.context_length, ids=ids if request.return_ids else ()
        )


def _new_id() -> str:
    return f"grpc-{secrets.token_hex(8)}"


async def _chunks(files: bytes, digest: str) -> AsyncIterator[common.GetTokenizerChunk]:
    for start in range(0, len(files), CHUNK):
        last = start + CHUNK >= len(files)
        yield common.GetTokenizerChunk(data=files[start : start + CHUNK], sha256=digest if last else "")
