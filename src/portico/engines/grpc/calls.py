"""A host that speaks ``vllm.grpc.engine.VllmEngine``: vLLM's server, Portico's, or another.

- ``submit`` returns when the host has accepted the request: when it sends the head of its answer. Portico's own server
  does that as soon as it has, others with the first token. What these refuse, they refuse quickly; so the wait for
  their heads is ``ACCEPT_SECONDS`` at most, and an error that comes later ends the request in-band.
- Each request is a stream; what one read brings of all of them is given as one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import numpy as np

from portico.engines import EmbeddingBatch, EngineInfo
from portico.engines.grpc.host import CHECK_DEADLINE, SILENCE_SECONDS, Host, parsed, rpc_error
from portico.engines.grpc.http2 import Call, RpcError
from portico.engines.grpc.messages import Reader, generate_request
from portico.engines.resuming import AS_PROMPT, as_prompt
from portico.errors import EngineDeadError
from portico.events import EngineOutput, EngineRequest, FinishReason
from portico.protos import smg_common_pb2 as common
from portico.protos import vllm_engine_pb2 as pb

__all__ = ["CallHost"]

ACCEPTED: Final = "portico-accepted"  # in the head of an answer of Portico's own server
ACCEPT_SECONDS: Final = 0.25
FLUSH_SECONDS: Final = 10.0


class CallHost(Host):
    """A host with a stream for each request."""

    service = pb.DESCRIPTOR.services_by_name["VllmEngine"].full_name

    def __init__(self, address: str, *, key: str | None = None, secure: bool = False) -> None:
        super().__init__(address, key=key, secure=secure, after_read=self._hand_on)
        self._server_type = ""
        self._last_heard = 0.0  # in the loop's time
        self._answers: dict[str, _Answer] = {}  # by request id
        self._outputs: list[EngineOutput] = []  # of the read that is going on

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
            request = pb.HealthCheckRequest()
            health = await self._ask("HealthCheck", request, pb.HealthCheckResponse, CHECK_DEADLINE)
        except RpcError as error:
            silent = asyncio.get_running_loop().time() - self._last_heard > SILENCE_SECONDS
            if error.code == "DEADLINE_EXCEEDED" and silent:
                self._channel.drop("it has fallen silent")
            raise
        self._last_heard = asyncio.get_running_loop().time()
        self.leaving = not health.healthy
        if self.leaving:
            return f"it says that it is not healthy ({health.message or 'no reason given'})"
        return "" if self.healthy else self._meet(await self._facts())

    async def _facts(self) -> EngineInfo:
        request = pb.GetModelInfoRequest()
        model = await self._ask("GetModelInfo", request, pb.GetModelInfoResponse, CHECK_DEADLINE)
        resumes = AS_PROMPT
        try:
            about = pb.GetServerInfoRequest()
            server = await self._ask("GetServerInfo", about, pb.GetServerInfoResponse, CHECK_DEADLINE)
            self._server_type = server.server_type
            resumes = frozenset(server.portico_resumes) or AS_PROMPT
        except RpcError as error:
            if error.code != "UNIMPLEMENTED":
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
        """Open a stream for the request."""
        assert self.info is not None
        takes_generated = self.info.resumes != AS_PROMPT  # apart from the prompt, as Portico's own server does
        message = generate_request(request if takes_generated else as_prompt(request), takes_lark=self._takes_lark)
        reader = Reader(request, self.info.eos_token_ids | self.more_ends)
        answer = self._answers[request.request_id] = _Answer(self, request.request_id, reader)
        fields = (request.trace_headers or {}).items()
        try:
            await self._channel.begin(answer, f"/{self.service}/Generate", message.SerializeToString(), fields=fields)
            await asyncio.wait((answer.taken,), timeout=None if self._is_portico else ACCEPT_SECONDS)
            answer.take()
            answer.taken.result()
        except RpcError as error:
            self.forget(request.request_id, answer)
            raise rpc_error(error) from None
        except BaseException:
            self.forget(request.request_id, answer)
            answer.cancel()
            raise

    def abort(self, request_id: str) -> None:
        """Cancel the call, which stops the request at its host."""
        answer = self._answers.pop(request_id, None)
        if answer is not None:
            answer.cancel()
            answer.take()  # so that nobody waits for it

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """One input, as the protocol has it."""
        (ids,) = token_id_lists
        message = pb.EmbedRequest(request_id="embed", tokenized=pb.TokenizedInput(input_ids=ids))
        try:
            response = await self._ask("Embed", message, pb.EmbedResponse, None)
        except RpcError as error:
            raise rpc_error(error) from None
        return EmbeddingBatch(np.array([list(response.embedding)], dtype=np.float32), [response.prompt_tokens])

    async def flush_cache(self) -> bool:
        request = common.FlushCacheRequest(timeout_s=FLUSH_SECONDS)
        try:
            answer = await self._ask("FlushCache", request, common.FlushCacheResponse, FLUSH_SECONDS)
        except RpcError:
            return False
        return bool(answer.success)

    # -- answers ------------------------------------------------------------------------------------------------------

    def give(self, answer: _Answer, output: EngineOutput) -> None:
        """One more output of an answer; the last ends it."""
        self._outputs.append(output)
        if output.finish_reason is not None:
            self.forget(output.request_id, answer)

    def forget(self, request_id: str, answer: _Answer) -> None:
        """It is over."""
        if self._answers.get(request_id) is answer:
            del self._answers[request_id]

    def _hand_on(self) -> None:
        if self._outputs:
            outputs, self._outputs = self._outputs, []
            self._last_heard = asyncio.get_running_loop().time()
            self.deliver(outputs)


class _Answer(Call):
    """The answer to one request. ``taken`` is done when the host has accepted it, or has the error that it refuses it
    for."""

    def __init__(self, host: CallHost, request_id: str, reader: Reader) -> None:
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host, self._id, self._reader = host, request_id, reader
        self._done = False

    def take(self) -> None:
        """It is accepted, if nothing else is known."""
        if not self.taken.done():
            self.taken.set_result(None)

    def accepted(self, fields: dict[str, str]) -> None:
        if ACCEPTED in fields:
            self.take()

    def message(self, data: bytes) -> None:
        if self._done:
            return
        try:
            output = self._reader.feed(parsed(pb.GenerateResponse, data))
        except RpcError as error:
            self.fail(error)
            return
        self.take()
        if output is not None:
            self._done = output.finish_reason is not None
            self._host.give(self, output)

    def over(self, error: RpcError | None) -> None:
        if self._done:
            return
        error = error or RpcError("UNAVAILABLE", "it ended its answer before the end")
        if not self.taken.done():
            self.taken.set_exception(error)
            return
        told = rpc_error(error)
        reason: FinishReason = "lost" if isinstance(told, EngineDeadError) else "error"
        self._host.give(self, EngineOutput(self._id, (), finish_reason=reason, error=told.message))
        if error.code == "UNAVAILABLE":
            self._host.lost()
