"""A host that speaks ``vllm.grpc.engine.VllmEngine``: vLLM's server, Portico's, or another.

- ``submit`` returns when the host has accepted the request: when it sends the head of its answer. Portico's own server
  does that as soon as it has, others with the first token. What these refuse, they refuse quickly; so the wait for
  their heads is ``ACCEPT_SECONDS`` at most, and an error that comes later ends the request in-band.
- Each request is a stream and a task that reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc
import numpy as np

from portico.engines import EmbeddingBatch, EngineInfo
from portico.engines.grpc.host import CHECK_DEADLINE, SILENCE_SECONDS, Host, rpc_error
from portico.engines.grpc.messages import Reader, generate_request
from portico.engines.resuming import AS_PROMPT, as_prompt
from portico.errors import EngineDeadError, PorticoError
from portico.events import EngineOutput, EngineRequest, FinishReason
from portico.protos import smg_common_pb2 as common
from portico.protos import vllm_engine_pb2 as pb
from portico.protos.vllm_engine_pb2_grpc import VllmEngineStub

__all__ = ["CallHost"]

ACCEPTED: Final = "portico-accepted"  # in the head of an answer of Portico's own server
ACCEPT_SECONDS: Final = 0.25
A_MOMENT: Final = 10  # rounds of the event loop
FLUSH_SECONDS: Final = 10.0


class CallHost(Host):
    """A host with a stream for each request."""

    def __init__(self, address: str, *, key: str | None = None, secure: bool = False) -> None:
        super().__init__(address, key=key, secure=secure)
        self._server_type = ""
        self._last_heard = 0.0  # in the loop's time
        self._calls: dict[str, Any] = {}  # request id -> the call that serves it
        self._tasks: set[asyncio.Task[None]] = set()

    def _new_stub(self) -> Any:
        return VllmEngineStub(self._channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """End every request, then the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().close()

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def _is_portico(self) -> bool:
        """Whether it is Portico's own server, which says at once whether it accepts a request."""
        return self._server_type.startswith("portico")

    @property
    def _takes_lark(self) -> bool:
        """Whether it takes grammars as they are. Portico's server before an engine that does not says so."""
        return self._server_type == "portico"

    async def _check(self) -> str:
        try:
            health = await self.stub.HealthCheck(
                pb.HealthCheckRequest(), metadata=self.metadata, timeout=CHECK_DEADLINE
            )
        except grpc.aio.AioRpcError as error:
            silent = asyncio.get_running_loop().time() - self._last_heard > SILENCE_SECONDS
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and silent:
                await self._open_anew()
            raise
        self._last_heard = asyncio.get_running_loop().time()
        self.leaving = not health.healthy
        if self.leaving:
            return f"it says that it is not healthy ({health.message or 'no reason given'})"
        return "" if self.healthy else self._meet(await self._facts())

    async def _facts(self) -> EngineInfo:
        options = {"metadata": self.metadata, "timeout": CHECK_DEADLINE}
        model = await self.stub.GetModelInfo(pb.GetModelInfoRequest(), **options)
        resumes = AS_PROMPT
        try:
            server = await self.stub.GetServerInfo(pb.GetServerInfoRequest(), **options)
            self._server_type = server.server_type
            resumes = frozenset(server.portico_resumes) or AS_PROMPT
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
        capabilities = {"embed"}
        if model.is_generation:
            capabilities = {"generate", "logprobs", "prompt_logprobs"}
            capabilities.add("constraints" if self._takes_lark else "structural_tags")
        return EngineInfo(
            model=model.served_model_name or model.model_path,
            context_length=model.max_context_length,
            vocab_size=model.vocab_size,
            capabilities=frozenset(capabilities),
            eos_token_ids=frozenset(model.eos_token_ids),
            resumes=resumes if model.is_generation else frozenset(),
            metadata={"engine": "grpc", "model_type": model.model_type},
        )

    # -- what it is asked ---------------------------------------------------------------------------------------------

    async def submit(self, request: EngineRequest) -> None:
        """Open a stream for the request, and a task that reads it."""
        assert self.info is not None
        takes_generated = self.info.resumes != AS_PROMPT  # apart from the prompt, as Portico's own server does
        message = generate_request(request if takes_generated else as_prompt(request), takes_lark=self._takes_lark)
        metadata = (*self.metadata, *(request.trace_headers or {}).items())
        call = self.stub.Generate(message, metadata=metadata)
        self._calls[request.request_id] = call
        try:
            await (_accepted_by_portico(call) if self._is_portico else _accepted(call))
        except grpc.aio.AioRpcError as error:
            self._forget(request.request_id, call)
            raise rpc_error(error) from None
        except BaseException:
            self._forget(request.request_id, call)
            call.cancel()
            raise
        reader = Reader(request, self.info.eos_token_ids | self.more_ends)
        task = asyncio.create_task(self._read(request.request_id, call, reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def abort(self, request_id: str) -> None:
        """Cancel the call, which stops the request at its host."""
        call = self._calls.pop(request_id, None)
        if call is not None:
            call.cancel()

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """One input, as the protocol has it."""
        (ids,) = token_id_lists
        message = pb.EmbedRequest(request_id="embed", tokenized=pb.TokenizedInput(input_ids=ids))
        try:
            response: pb.EmbedResponse = await self.stub.Embed(message, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            raise rpc_error(error) from None
        return EmbeddingBatch(np.array([list(response.embedding)], dtype=np.float32), [response.prompt_tokens])

    async def flush_cache(self) -> bool:
        request = common.FlushCacheRequest(timeout_s=FLUSH_SECONDS)
        try:
            answer = await self.stub.FlushCache(request, metadata=self.metadata, timeout=FLUSH_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.success)

    # -- answers ------------------------------------------------------------------------------------------------------

    async def _read(self, request_id: str, call: Any, reader: Reader) -> None:
        """Read one answer to its end."""
        loop = asyncio.get_running_loop()
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                self._last_heard = loop.time()
                output = reader.feed(response)
                if output is None:
                    continue
                if self._calls.get(request_id) is not call:
                    return  # aborted
                if output.finish_reason is not None:
                    del self._calls[request_id]
                self.deliver([output])
                if output.finish_reason is not None:
                    return
            raise EngineDeadError("The engine ended its answer before the end.")
        except grpc.aio.AioRpcError as error:
            self._fail(request_id, call, rpc_error(error))
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self.lost()
        except PorticoError as error:
            self._fail(request_id, call, error)
        except asyncio.CancelledError:  # where nobody here aborted it
            self._fail(request_id, call, EngineDeadError("The connection to the engine was closed."))
        finally:
            self._forget(request_id, call)
            call.cancel()

    def _fail(self, request_id: str, call: Any, error: PorticoError) -> None:
        if self._calls.get(request_id) is call:
            reason: FinishReason = "lost" if isinstance(error, EngineDeadError) else "error"
            self.deliver([EngineOutput(request_id, (), finish_reason=reason, error=error.message)])

    def _forget(self, request_id: str, call: Any) -> None:
        if self._calls.get(request_id) is call:
            del self._calls[request_id]


async def _accepted_by_portico(call: Any) -> None:
    """Wait until the request is accepted, which the head of the answer says. Raises ``AioRpcError`` for a refusal."""
    if ACCEPTED not in dict(await call.initial_metadata() or ()):
        await _refused(call)


async def _accepted(call: Any) -> None:
    """Wait a little for the head of the answer. A refusal has one too, and its status a moment later. Raises
    ``AioRpcError`` for it."""
    head = asyncio.ensure_future(call.initial_metadata())
    try:
        await asyncio.wait((head,), timeout=ACCEPT_SECONDS)
    finally:
        head.cancel()
    for _ in range(A_MOMENT):
        if call.done():
            await _refused(call)
            return
        await asyncio.sleep(0)


async def _refused(call: Any) -> None:
    """Raise what the call has ended with, if it is an error."""
    if await call.code() is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
        )
