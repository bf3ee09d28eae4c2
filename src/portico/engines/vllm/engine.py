"""The ``Engine`` over a process that has vLLM, which is started again when it dies, as ``restarts`` has it.

While none is loaded the engine is not healthy, and requests are refused at once rather than kept for minutes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence

from portico.engines import Described, EmbeddingBatch
from portico.engines.restarts import keep_alive
from portico.engines.shared import SharedEngine
from portico.engines.vllm.process import Load, VllmProcess
from portico.errors import EngineDeadError
from portico.events import EngineOutput, EngineRequest

__all__ = ["VllmEngine"]


class VllmEngine(Described):
    """``model`` is a directory in Hugging Face's layout, or a name on its hub; ``arguments`` are options of
    ``vllm serve``; ``loras`` maps names of adapters to their directories."""

    def __init__(self, model: str, arguments: Sequence[str] = (), *, name: str, loras: Mapping[str, str] | None = None):
        self._load = Load(model, name, list(arguments), dict(loras or {}))
        self._engine: SharedEngine | None = None  # the process's; None while there is none that is loaded
        self._process: VllmProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._trouble = "it has not been started"
        self._turned = asyncio.Event()  # an engine has come, or none will come any more
        self._closed = False

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """False while vLLM is dead or loading."""
        return self._engine is not None and self._engine.healthy

    async def start(self) -> None:
        """Load the model, which takes vLLM a minute or more. Raises ``EngineError`` with what vLLM says."""
        process = await self._launch()
        self._supervisor = asyncio.create_task(keep_alive(process, self._launch, self._lost))

    async def close(self) -> None:
        """End vLLM; what is in flight ends with finish reason ``abort``. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._trouble = "it is closed"
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()
        self._turned.set()
        if self._process is not None:
            await self._process.close()

    async def _launch(self) -> VllmProcess:
        """Start a process and wait until it has loaded the model. Raises ``EngineError``."""
        ours, theirs = socket.socketpair()
        process = self._process = VllmProcess()
        engine = SharedEngine(ours)
        try:
            await process.start(self._load, theirs)
            await engine.start()
        except BaseException:
            await engine.close()
            await process.close()
            raise
        self._info, self._engine = engine.info, engine
        self._turned.set()
        return process

    def _lost(self, trouble: str) -> None:
        """The process is gone, or does not start. What was in flight has been ended by its connection."""
        self._trouble = trouble
        self._engine = None

    # -- requests -----------------------------------------------------------------------------------------------------

    def _loaded(self) -> SharedEngine:
        if self._engine is None:
            raise EngineDeadError(f"The engine is not available: {self._trouble}.", retry_after=5)
        return self._engine

    async def submit(self, request: EngineRequest) -> None:
        """Hand the request over; vLLM checks it. Raises what is wrong with it, or ``EngineDeadError``."""
        await self._loaded().submit(request)

    def abort(self, request_id: str) -> None:
        """Stop a request; unknown ids are ignored. No output for it follows."""
        if self._engine is not None:
            self._engine.abort(request_id)

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """One list per step of vLLM's core, from one life of its process to the next; ends after ``close()``. One
        consumer."""
        while not self._closed:
            await self._turned.wait()
            self._turned.clear()
            if self._engine is not None:
                async for outputs in self._engine.steps():
                    yield outputs

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Not offered by vLLM here; raises ``NotSupportedError``."""
        return await self._loaded().embed(token_id_lists)

    async def flush_cache(self) -> bool:
        """Forget cached prefixes; vLLM refuses while requests use them."""
        return await self._loaded().flush_cache()
