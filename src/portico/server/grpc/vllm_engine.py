"""``vllm.grpc.engine.VllmEngine``: vLLM's engine protocol, so that gateways which drive vLLM can drive this."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

from portico import __version__
from portico.engines import FlushesCache
from portico.errors import NotSupportedError
from portico.protocols.grpc import vllm_engine
from portico.protocols.openai import embeddings
from portico.protos import smg_common_pb2 as common
from portico.protos import vllm_engine_pb2 as engine
from portico.server.grpc.answers import ABOUT, Answer, admitted, new_id, off_loop
from portico.server.grpc.tokenizer import TokenizerFiles
from portico.server.line.served import Served, Wanted
from portico.threads import CALLER

__all__ = ["VllmEngineService"]

Name: TypeAlias = tuple[str, str]  # of an answer: whose it is, and the client's id for it; two keys may use one id


class VllmEngineService:
    """``vllm.grpc.engine.VllmEngine`` over the first model that can do what a call asks for."""

    descriptor = engine.DESCRIPTOR.services_by_name["VllmEngine"]

    def __init__(self, served: Served) -> None:
        self._served = served
        self._started = time.time()
        self._last_request = 0.0
        self._running: dict[Name, set[Running]] = {}
        self._files = TokenizerFiles()

    async def Generate(self, request: engine.GenerateRequest) -> Running:
        started = time.perf_counter()
        self._last_request = time.time()
        given = await off_loop(partial(vllm_engine.prompt, request))
        with ExitStack() as held:
            by = await self._served.generating(None).get(held)
            ids = (await by.model.prompter.completion(given)).token_ids if isinstance(given, str) else given
            generation = await off_loop(partial(vllm_engine.generation, request, ids, by.model, new_id()))
            encoder = vllm_engine.GenerateEncoder(generation, stream=request.stream)
            answer = await admitted(self._served, by, generation, encoder, started)
        return Running(self._running, (CALLER.get(), request.request_id), answer)

    async def Abort(self, request: engine.AbortRequest) -> engine.AbortResponse:
        for request_id in request.request_ids:
            for running in list(self._running.get((CALLER.get(), request_id), ())):
                running.answer.stop()
        return engine.AbortResponse()

    async def Embed(self, request: engine.EmbedRequest) -> engine.EmbedResponse:
        checked = await off_loop(lambda: embeddings.EmbeddingRequest(input=list(request.tokenized.input_ids)))
        with ExitStack() as held:
            by = await self._served.embedding(None).get(held)
            ABOUT.set(by.model.label)
            found = await off_loop(partial(embeddings.inputs, checked, by.model))
            inputs = [list(one) for one in found if not isinstance(one, str)]
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
        with ExitStack() as held:
            return vllm_engine.model_info((await self._wanted.get(held)).model)

    async def GetServerInfo(self, request: engine.GetServerInfoRequest) -> engine.GetServerInfoResponse:
        with ExitStack() as held:
            by = await self._wanted.get(held)
        info = by.line.engine.info
        return engine.GetServerInfoResponse(
            active_requests=self._served.in_flight,
            last_receive_timestamp=self._last_request,
            uptime_seconds=time.time() - self._started,
            server_type="portico structural_tags" if "structural_tags" in info.capabilities else "portico",
            data_parallel_size=info.metadata.get("data_parallel_size", 1),
            constrained_decoding_start="first_token",
            portico_resumes=sorted(info.resumes),
        )

    async def GetLoads(self, request: engine.GetLoadsRequest) -> engine.GetLoadsResponse:
        loads = [one.line.load for one in self._served.models]
        running, waiting = sum(one[0] for one in loads), sum(one[1] for one in loads)
        load = engine.SchedulerLoad(
            num_running_reqs=running, num_waiting_reqs=waiting, num_total_reqs=running + waiting
        )
        now = datetime.now(UTC).isoformat()
        return engine.GetLoadsResponse(timestamp=now, version=__version__, dp_rank_count=1, loads=[load])

    async def GetTokenizer(self, request: common.GetTokenizerRequest) -> AsyncIterator[common.GetTokenizerChunk]:
        with ExitStack() as held:
            tokenizer = (await self._wanted.get(held)).model.tokenizer
        return await self._files.chunks(tokenizer)

    @property
    def _wanted(self) -> Wanted:
        """The model this service is about: the first that generates, else the first there is."""
        try:
            return self._served.generating(None)
        except NotSupportedError:
            return self._served.any(None)


class Running:
    """An answer that its client may stop by its own id for it."""

    def __init__(self, running: dict[Name, set[Running]], name: Name, answer: Answer[engine.GenerateResponse]):
        self.answer = answer
        self._all, self._name = running, name
        running.setdefault(name, set()).add(self)

    def __aiter__(self) -> AsyncIterator[engine.GenerateResponse]:
        return aiter(self.answer)

    async def aclose(self) -> None:
        """It is over."""
        await self.answer.aclose()
        self._all[self._name].discard(self)
        if not self._all[self._name]:
            del self._all[self._name]
