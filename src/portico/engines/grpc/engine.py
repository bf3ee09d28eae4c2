"""The ``Engine`` over one or several hosts with the same model.

- A request goes to a healthy host by ``placement``: see there. A host that turns out to be gone before it has said
  anything is passed over for the next; once there is output, there is no second try.
- ``submit`` returns when the host has accepted the request: when it sends the head of its answer. Portico's own server
  does that as soon as it has, others with the first token. What these refuse, they refuse quickly; so the wait for
  their heads is ``ACCEPT_SECONDS`` at most, and an error that comes later ends the request in-band.
- Each request is a stream and a task that reads it. What they read between two ticks of the event loop is one step.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from portico.engines import Described, EmbeddingBatch, EngineInfo
from portico.engines.grpc.host import Host
from portico.engines.grpc.messages import Reader, error_of, generate_request
from portico.engines.placement import Placement
from portico.engines.resuming import as_prompt, needs
from portico.errors import (
    BadRequestError,
    EngineDeadError,
    EngineError,
    EngineLostError,
    NotSupportedError,
    PorticoError,
)
from portico.events import EngineOutput, EngineRequest, FinishReason
from portico.protos import smg_common_pb2 as common
from portico.protos import vllm_engine_pb2 as pb

__all__ = ["GrpcEngine"]

log = logging.getLogger("portico")

ACCEPTED: Final = "portico-accepted"  # in the head of an answer of Portico's own server
ACCEPT_SECONDS: Final = 0.25
A_MOMENT: Final = 10  # rounds of the event loop
START_SECONDS: Final = 600.0  # that a first host gets to load its model
RETURN_SECONDS: Final = 10.0  # that a request waits for a host to come back
FLUSH_SECONDS: Final = 10.0
EMBEDDINGS_AT_ONCE: Final = 32


class GrpcEngine(Described):
    """``target`` is ``grpc://host:port[,host:port…]``, or ``grpcs://…`` for TLS. ``key`` is sent to the hosts."""

    def __init__(
        self,
        target: str,
        *,
        key: str | None = None,
        placement: Placement | None = None,
        start_seconds: float = START_SECONDS,
    ) -> None:
        scheme, _, addresses = target.partition("://")
        names = [one.strip() for one in addresses.split(",") if one.strip()]
        if scheme not in ("grpc", "grpcs") or not names:
            raise BadRequestError("An engine elsewhere is named grpc://host:port[,host:port…].", param="engine")
        self._hosts = [Host(name, key=key, secure=scheme == "grpcs") for name in names]
        self._placement = placement or Placement()
        self._start_seconds = start_seconds
        self._ends: frozenset[int] = frozenset()
        self._changed = asyncio.Event()  # a host's health has turned
        self._calls: dict[str, Any] = {}  # request id -> the call that serves it
        self._tasks: dict[asyncio.Task[None], _Answer] = {}  # who reads which
        self._outputs: list[EngineOutput] = []
        self._stepped = asyncio.Event()
        self._closed = False

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether any host can take requests."""
        return not self._closed and any(host.healthy for host in self._hosts)

    async def start(self) -> None:
        """Wait for a first host, as long as it may take to load a model, and learn what it has."""
        if self._info is not None:
            return
        for host in self._hosts:
            host.start(partial(self._turned, host))
        first = await self._host(set(), self._start_seconds)
        model = first.model
        assert model is not None
        for host in self._hosts:
            if host.model is not None and host.model.vocab_size != model.vocab_size:
                raise EngineError(f"{first.address} and {host.address} have different models.")
        self._ends = frozenset(model.eos_token_ids)
        capabilities = {"generate", "logprobs", "prompt_logprobs"} if model.is_generation else {"embed"}
        if model.is_generation:
            capabilities |= {
                "constraints" if host.takes_lark else "structural_tags" for host in self._hosts if host.model
            }
        self._info = EngineInfo(
            model=model.served_model_name or model.model_path,
            context_length=model.max_context_length,
            vocab_size=model.vocab_size,
            capabilities=frozenset(capabilities),
            eos_token_ids=self._ends,
            resumes=frozenset.intersection(*(host.resumes for host in self._hosts if host.model))
            if model.is_generation
            else frozenset(),
            metadata={"engine": "grpc", "hosts": len(self._hosts), "model_type": model.model_type},
        )

    async def fetch_tokenizer(self, directory: Path) -> None:
        """Write the tokenizer's files of a host into ``directory``. Raises ``EngineError`` where there are none."""
        host = await self._host(set(), RETURN_SECONDS)
        await host.fetch_tokenizer(directory)
        try:  # the model's further ends, which its facts do not tell
            ends = json.loads((directory / "generation_config.json").read_bytes())["eos_token_id"]
            self._ends |= frozenset(ends if isinstance(ends, list) else [ends])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    async def close(self) -> None:
        """End every request, then the connections. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for request_id in list(self._calls):
            self.abort(request_id)
            self._push(EngineOutput(request_id, (), finish_reason="abort"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(host.close() for host in self._hosts))
        self._stepped.set()
        self._changed.set()

    # -- requests -----------------------------------------------------------------------------------------------------

    async def submit(self, request: EngineRequest) -> None:
        """Hand the request to a host. Raises what the host refuses it for, or ``EngineDeadError``."""
        if request.request_id in self._calls:
            raise BadRequestError("A request with this id is already running.", param="request_id")
        tried: set[Host] = set()
        while True:
            host = await self._host(tried, RETURN_SECONDS, request)
            if request.generated and not needs(request) <= host.resumes:
                tried.add(host)
                continue
            message = generate_request(
                request if host.takes_generated else as_prompt(request), takes_lark=host.takes_lark
            )
            metadata = (*host.metadata, *(request.trace_headers or {}).items())
            call = host.stub.Generate(message, metadata=metadata)
            self._calls[request.request_id] = call
            host.in_flight += 1
            answer = _Answer(request, host, call, Reader(request, self._ends))
            try:
                await (_accepted_by_portico(call) if host.is_portico else _accepted(call))
            except grpc.aio.AioRpcError as error:
                self._forget(answer)
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise _error_of(error) from None
                host.lost()
                tried.add(host)
            except BaseException:
                self._forget(answer)
                call.cancel()
                raise
            else:
                task = asyncio.create_task(self._read(answer))
                self._tasks[task] = answer
                task.add_done_callback(self._tasks.pop)
                return

    def abort(self, request_id: str) -> None:
        """Cancel the call, which stops the request at its host; unknown ids are ignored. No output for it follows."""
        call = self._calls.pop(request_id, None)
        if call is not None:
            call.cancel()

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """What all hosts said since the last step. One consumer."""
        while True:
            await self._stepped.wait()
            self._stepped.clear()
            if self._outputs:
                outputs, self._outputs = self._outputs, []
                yield outputs
            elif self._closed:
                return

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """One call per input, some at a time, as the protocol has it. Raises ``EngineLostError`` where a host is lost
        with it."""
        if "embed" not in self.info.capabilities:
            raise NotSupportedError("This model generates; it does not embed.", param="model")
        gate = asyncio.Semaphore(EMBEDDINGS_AT_ONCE)

        async def one(number: int, ids: Sequence[int]) -> pb.EmbedResponse:
            async with gate:
                host = await self._host(set(), RETURN_SECONDS)
                message = pb.EmbedRequest(request_id=f"embed-{number}", tokenized=pb.TokenizedInput(input_ids=ids))
                try:
                    response: pb.EmbedResponse = await host.stub.Embed(message, metadata=host.metadata)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise _error_of(error) from None
                    host.lost()
                    raise EngineLostError(_error_of(error).message, retry_after=1) from None
                return response

        found = await asyncio.gather(*(one(number, ids) for number, ids in enumerate(token_id_lists)))
        vectors = np.array([list(one.embedding) for one in found], dtype=np.float32)
        return EmbeddingBatch(vectors, [one.prompt_tokens for one in found])

    async def flush_cache(self) -> bool:
        """Ask every host to forget its prefixes; True when all have."""
        request = common.FlushCacheRequest(timeout_s=FLUSH_SECONDS)
        answers = await asyncio.gather(
            *(host.stub.FlushCache(request, metadata=host.metadata, timeout=FLUSH_SECONDS) for host in self._hosts),
            return_exceptions=True,
        )
        return all(not isinstance(one, BaseException) and one.success for one in answers)

    def _turned(self, host: Host) -> None:
        """A host's health has turned. One that says itself that it takes no more is about to leave: what can go on at
        another is lost there now, and not when it has gone."""
        self._changed.set()
        if not host.leaving or self._info is None or not any(other.healthy for other in self._hosts):
            return
        for task, answer in self._tasks.items():
            if answer.host is host and answer.needs <= self.info.resumes:
                task.cancel()

    # -- hosts and answers --------------------------------------------------------------------------------------------

    async def _host(self, tried: set[Host], patience: float, request: EngineRequest | None = None) -> Host:
        """The healthy host for this request, or with the least to do; waits up to ``patience`` seconds for one to be
        healthy."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while not self._closed:
            able = [host for host in self._hosts if host.healthy and host not in tried]
            if able and request is not None:
                chosen = self._placement.choose({host.address: host.in_flight for host in able}, request)
                return next(host for host in able if host.address == chosen)
            if able:
                return min(able, key=lambda host: host.in_flight)
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - loop.time()))
            except TimeoutError:
                break
            tried = {host for host in tried if not host.healthy}  # who is back may be asked again
        trouble = "; ".join(f"{host.address}: {host.trouble or 'the connection was lost'}" for host in self._hosts)
        log.error("no engine can be reached: %s", trouble)
        if self._info is None:
            raise EngineError(f"No engine can be reached: {trouble}.")
        raise EngineDeadError("The engine is not available: none of its hosts answers.", retry_after=1)

    async def _read(self, answer: _Answer) -> None:
        """Read one answer to its end."""
        call, reader = answer.call, answer.reader
        loop = asyncio.get_running_loop()
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                answer.host.last_heard = loop.time()
                output = reader.feed(response)
                if output is None:
                    continue
                if self._calls.get(answer.request_id) is not call:
                    return  # aborted
                if output.finish_reason is not None:
                    del self._calls[answer.request_id]
                self._push(output)
                if output.finish_reason is not None:
                    return
            raise EngineDeadError("The engine ended its answer before the end.")
        except grpc.aio.AioRpcError as error:
            self._fail(answer, _error_of(error))
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                answer.host.lost()
        except PorticoError as error:
            self._fail(answer, error)
        except asyncio.CancelledError:
            if self._calls.get(answer.request_id) is call:  # nobody here aborted it
                self._fail(answer, EngineDeadError("The engine is leaving, or its connection was closed."))
        finally:
            self._forget(answer)
            call.cancel()

    def _fail(self, answer: _Answer, error: PorticoError) -> None:
        if self._calls.get(answer.request_id) is answer.call:
            reason: FinishReason = "lost" if isinstance(error, EngineDeadError) else "error"
            self._push(EngineOutput(answer.request_id, (), finish_reason=reason, error=error.message))

    def _forget(self, answer: _Answer) -> None:
        answer.host.in_flight -= 1
        if self._calls.get(answer.request_id) is answer.call:
            del self._calls[answer.request_id]

    def _push(self, output: EngineOutput) -> None:
        self._outputs.append(output)
        self._stepped.set()


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


class _Answer:
    """One request at one host."""

    def __init__(self, request: EngineRequest, host: Host, call: Any, reader: Reader) -> None:
        self.request_id = request.request_id
        self.needs = needs(request)
        self.host = host
        self.call = call
        self.reader = reader


def _error_of(error: grpc.aio.AioRpcError) -> PorticoError:
    trailing = dict(error.trailing_metadata() or ())
    param = trailing.get("portico-param")
    return error_of(error.code().name, error.details() or "", param if isinstance(param, str) else None)
