"""The embedded engine: llama.cpp in a process of its own, because a native crash must not take the front door down.

This is the parent's side: it checks requests, passes them on and hands each step's outputs over, one wake-up per
step. When the process dies, what was in flight ends with an error, and the process is started again, at once and then
ever more patiently; requests that come meanwhile wait for it for a while.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from portico.engines import Described, EmbeddingBatch, EngineInfo
from portico.engines.llamacpp import wire
from portico.engines.llamacpp.admission import check_embedding_inputs, check_request
from portico.engines.llamacpp.process import EngineProcess
from portico.engines.restarts import keep_alive
from portico.errors import BadRequestError, EngineDeadError, EngineError, NotSupportedError
from portico.events import EngineOutput, EngineRequest, FinishReason

__all__ = ["LlamaCppEngine"]

RESTART_WAIT: Final = 30.0  # seconds that a request waits for an engine that is restarting
GRAMMAR_WAIT: Final = 10.0  # seconds that a grammar may take to compile

_GENERATING: Final = frozenset(
    {"generate", "logprobs", "prompt_logprobs", "constraints", "priority", "thinking_budget"}
)
_EMBEDDING: Final = frozenset({"embed"})


class LlamaCppEngine(Described):
    """A GGUF model on this machine, behind the ``Engine`` protocol.

    ``context_length`` (tokens) None is the model's own, at most 32768. ``max_sequences`` requests decode at a time,
    the rest queue. ``threads`` None is one per available core. ``batch_tokens`` bounds one prefill batch.
    ``cache_tokens`` is how many tokens the KV cache holds, shared by running requests and cached prefixes: at least
    ``context_length``, and 512 for each sequence unless said. A token's entry takes 2 bytes x layers x (key width +
    value width): 23 kB for SmolLM2-135M. With ``embedding`` the model embeds, and nothing else.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        model_id: str,
        context_length: int | None = None,
        max_sequences: int = 8,
        threads: int | None = None,
        batch_tokens: int = 512,
        cache_tokens: int | None = None,
        embedding: bool = False,
    ) -> None:
        self._model_id = model_id
        self._path = Path(model_path).absolute()
        self._load = wire.Load(
            str(self._path),
            context_length,
            max(1, max_sequences),
            threads or _available_cores(),
            max(1, batch_tokens),
            cache_tokens,
            embedding,
        )
        self._process: EngineProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self._closed = False
        self._trouble = "the engine has not been started"  # why nothing is served, when nothing is
        self._numbers = count(1)
        self._numbers_by_id: dict[str, str] = {}  # request id -> its number on the wire
        self._ids: dict[str, str] = {}  # the reverse
        self._answers: dict[str, asyncio.Future[Any]] = {}  # number -> what submit or embed waits for
        self._steps: deque[list[EngineOutput]] = deque()
        self._stepped = asyncio.Event()

    # -- life -----------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """False while the process is down."""
        return self._serving.is_set()

    @property
    def pid(self) -> int | None:
        """The engine process, None while there is none."""
        return self._process.pid if self._process is not None and self.healthy else None

    async def start(self) -> None:
        """Load the model. Raises ``EngineError`` when the file is missing, damaged or of an unknown architecture."""
        if not self._path.is_file():
            raise EngineError(f"The model file {self._path.name} does not exist.")
        process = await self._launch()
        self._supervisor = asyncio.create_task(keep_alive(process, self._launch, self._lost))

    async def close(self) -> None:
        """End the process; what is in flight ends with finish reason ``abort``. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._serving.clear()
        self._trouble = "the engine is closed"
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if self._process is not None:
            await self._process.close()
        self._end_all("abort", None)

    async def _launch(self) -> EngineProcess:
        """Start a process and load the model in it. Raises ``EngineError``."""
        ready: asyncio.Future[wire.Ready] = asyncio.get_running_loop().create_future()

        def receive(message: wire.FromEngine) -> None:
            if isinstance(message, wire.Ready):
                ready.set_result(message)
            else:
                self._receive(message)

        process = EngineProcess(receive)
        self._process = process
        try:
            await process.start()
            process.send(self._load)
            await asyncio.wait((ready, process.gone), return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise EngineError(f"{self._path.name} cannot be served: {process.gone.result()}")
        except BaseException:
            await process.close()
            raise
        self._info = self._describe(ready.result())
        self._serving.set()
        return process

    def _describe(self, ready: wire.Ready) -> EngineInfo:
        return EngineInfo(
            model=self._model_id,
            context_length=ready.context_length,
            vocab_size=ready.vocab_size,
            capabilities=_EMBEDDING if self._load.embedding else _GENERATING,
            eos_token_ids=frozenset(ready.end_tokens),
            embedding_size=ready.embedding_size,
            metadata={"engine": "llama.cpp", **ready.metadata},
        )

    def _lost(self, trouble: str) -> None:
        """The process is gone, or does not start."""
        self._trouble = trouble
        self._serving.clear()
        self._end_all("error", f"The engine stopped: {trouble}.")

    def _end_all(self, reason: FinishReason, error: str | None) -> None:
        """End what waits for an answer, and what is in flight."""
        dead = EngineDeadError(f"The engine is not available: {self._trouble}.", retry_after=1)
        unanswered = {number for number, answer in self._answers.items() if not answer.done()}
        for number in unanswered:
            self._answers[number].set_exception(dead)
        outputs = [
            EngineOutput(request_id, (), finish_reason=reason, error=error)
            for number, request_id in self._ids.items()
            if number not in unanswered
        ]
        self._ids.clear()
        self._numbers_by_id.clear()
        if outputs:
            self._steps.append(outputs)
        self._stepped.set()

    # -- requests -------------------------------------------------------------------------------------------------

    async def submit(self, request: EngineRequest) -> None:
        """Queue a request; returns when the engine has taken it.

        Raises ``BadRequestError`` for bad ids, values or grammars, ``ContextLengthError`` for too long a prompt, and
        ``EngineDeadError`` when the engine is down and does not come back in time.
        """
        self._need("generate", "This model embeds; it does not generate.")
        check_request(request, self.info)
        if request.request_id in self._numbers_by_id:
            raise BadRequestError("A request with this id is already running.", param="request_id")
        try:
            await self._submit(request)
        except EngineDeadError:
            # Not acknowledged, so it never reached native code (a grammar may have): it can safely be tried again.
            if self._closed or request.constraint is not None:
                raise
            await self._submit(request)

    async def _submit(self, request: EngineRequest) -> None:
        process = await self._available()
        number = str(next(self._numbers))
        self._ids[number], self._numbers_by_id[request.request_id] = request.request_id, number
        message = wire.Submit(
            msgspec.structs.replace(request, request_id=number, token_ids=list(request.token_ids), trace_headers=None)
        )
        try:
            await self._ask(process, number, message, None if request.constraint is None else GRAMMAR_WAIT)
        except BaseException:
            self._forget(number)
            raise

    def abort(self, request_id: str) -> None:
        """Stop a request between two steps; unknown ids are ignored. No output for it follows."""
        number = self._numbers_by_id.get(request_id)
        if number is not None:
            self._forget(number)
            if self._process is not None:
                self._process.send(wire.Abort(number))

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """The outputs of all requests, one list per engine step; ends after ``close()``. One consumer."""
        while True:
            while self._steps:
                yield self._steps.popleft()
            if self._closed:
                return
            self._stepped.clear()
            await self._stepped.wait()

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """One unit vector per token sequence; special tokens are the caller's. Raises as ``submit`` does."""
        self._need("embed", "This model generates; it does not embed.")
        check_embedding_inputs(token_id_lists, self.info)
        inputs = [list(token_ids) for token_ids in token_id_lists]
        size = self.info.embedding_size
        assert size is not None
        rows = b""
        if inputs:
            process = await self._available()
            number = str(next(self._numbers))
            rows = await self._ask(process, number, wire.Embed(number, inputs), None)
        vectors = np.frombuffer(rows, dtype=np.float32).reshape(-1, size)
        return EmbeddingBatch(vectors, [len(token_ids) for token_ids in inputs])

    async def flush_cache(self) -> bool:
        """Forget cached prefixes; False while requests are running, whose own are kept."""
        process = await self._available()
        number = str(next(self._numbers))
        return bool(await self._ask(process, number, wire.Flush(number), None))

    def _need(self, capability: str, otherwise: str) -> None:
        if capability not in self.info.capabilities:
            raise NotSupportedError(otherwise, param="model")

    async def _available(self) -> EngineProcess:
        """The serving process; waits for one that is restarting."""
        if not self._serving.is_set() and not self._closed:
            try:
                await asyncio.wait_for(self._serving.wait(), RESTART_WAIT)
            except asyncio.TimeoutError:
                pass
        if not self._serving.is_set() or self._process is None:
            raise EngineDeadError(f"The engine is not available: {self._trouble}.", retry_after=5)
        return self._process

    async def _ask(self, process: EngineProcess, number: str, message: wire.ToEngine, timeout: float | None) -> Any:
        """Send a message and wait for its answer; whoever stops waiting aborts it."""
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        process.send(message)
        try:
            return await asyncio.wait_for(answer, timeout)
        except asyncio.TimeoutError as error:
            process.send(wire.Abort(number))
            raise BadRequestError(
                f"The grammar took more than {timeout:g} seconds to compile; simplify it.", param="constraint"
            ) from error
        except asyncio.CancelledError:
            process.send(wire.Abort(number))
            raise
        finally:
            self._answers.pop(number, None)

    def _forget(self, number: str) -> None:
        request_id = self._ids.pop(number, None)
        if request_id is not None:
            del self._numbers_by_id[request_id]

    # -- what the process says ------------------------------------------------------------------------------------

    def _receive(self, message: wire.FromEngine) -> None:
        if isinstance(message, wire.Step):
            self._step(message.outputs)
        elif isinstance(message, wire.Accepted):
            self._answer(message.request_id, None)
        elif isinstance(message, wire.Embedded):
            self._answer(message.request_id, message.vectors)
        elif isinstance(message, wire.Flushed):
            self._answer(message.request_id, message.whole)
        elif isinstance(message, wire.Rejected):
            answer = self._answers.get(message.request_id)
            if answer is not None and not answer.done():
                answer.set_exception(BadRequestError(message.message, param=message.param))

    def _answer(self, number: str, value: object) -> None:
        answer = self._answers.get(number)
        if answer is not None and not answer.done():
            answer.set_result(value)

    def _step(self, outputs: list[EngineOutput]) -> None:
        """Give outputs their requests' own ids; drop those that nobody waits for any more."""
        ids = self._ids
        wanted = []
        for output in outputs:
            number = output.request_id
            request_id = ids.get(number)
            if request_id is None:
                continue
            output.request_id = request_id
            if output.finish_reason is not None:
                self._forget(number)
            wanted.append(output)
        if wanted:
            self._steps.append(wanted)
            self._stepped.set()


def _available_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
