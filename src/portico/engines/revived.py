"""An engine in a process of its own, which is started again when it dies or hangs: at once, then ever more patiently.

What was in flight ends with an error that says how. Requests that come meanwhile wait for it for a while, or are
refused at once where loading takes minutes.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from portico.engines import Described, EmbeddingBatch
from portico.engines.adapters import AdapterForm
from portico.engines.process import EngineProcess
from portico.engines.restarts import keep_alive
from portico.engines.shared import SharedEngine
from portico.errors import BadRequestError, EngineDeadError
from portico.events import EngineOutput, EngineRequest, Media

__all__ = ["SILENCE", "RevivedEngine"]

SILENCE: Final = 30.0  # seconds; longer than any batch in which the processor has nothing to do


class RevivedEngine(Described, ABC):
    """``silence`` is how long (seconds) its process may neither say nor do anything before it counts as hung and is
    killed; ``patience`` is how long a request waits for one that is being started. Every process loads the
    ``adapters`` (paths by name) that there are by then."""

    patience = 0.0
    adapter_form: AdapterForm

    def __init__(self, *, silence: float = SILENCE, adapters: Mapping[str, str] | None = None) -> None:
        self._silence = silence
        self._adapters = dict(adapters or {})
        self._engine: SharedEngine | None = None  # the process's; None while there is none that is loaded
        self._process: EngineProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._lives: deque[SharedEngine] = deque()  # whose steps have not been given yet
        self._turned = asyncio.Event()  # another life has begun, or none will any more
        self._loaded = asyncio.Event()
        self._trouble = "it has not been started"  # why nothing is served, when nothing is
        self._closed = False
        self.restarts = -1  # the first start is none

    @abstractmethod
    def _new_process(self) -> EngineProcess:
        """A process that is to be started."""

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """False while the process is dead, hung or loading."""
        return self._engine is not None and self._engine.healthy

    @property
    def pid(self) -> int | None:
        """The process, None while there is none that serves."""
        return self._process.pid if self._process is not None and self.healthy else None

    @property
    def cache_usage(self) -> float | None:
        """The share of the KV cache that running requests hold, where the process says."""
        return self._engine.cache_usage if self._engine is not None else None

    async def start(self) -> None:
        """Load the model. Raises ``EngineError`` with what the engine says when it cannot."""
        process = await self._launch()
        self._supervisor = asyncio.create_task(keep_alive(process, self._launch, self._lost))

    async def close(self) -> None:
        """End the process; what is in flight ends with finish reason ``abort``. Idempotent."""
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
        self._loaded.set()
        if self._process is not None:
            await self._process.close()

    async def _launch(self) -> EngineProcess:
        """Start a process and wait until it has loaded the model. Raises ``EngineError``."""
        ours, theirs = socket.socketpair()
        process = self._process = self._new_process()
        engine: SharedEngine | None = None
        try:
            leader = await process.start(theirs)
            engine = SharedEngine(ours, leader=leader, silence=self._silence, hung=process.kill, gone=process.gone)
            await engine.start()
        except BaseException:
            if engine is not None:
                await engine.close()
            ours.close()
            await process.close()
            raise
        self._info, self._engine = engine.info, engine
        self.restarts += 1
        self._lives.append(engine)
        self._turned.set()
        self._loaded.set()
        return process

    def _lost(self, how: str) -> None:
        """The process is gone, or does not start. What was in flight has been ended by its connection."""
        self._trouble = how if self._engine is None else self._engine.trouble or how
        self._engine = None
        if not self._closed:
            self._loaded.clear()

    async def _available(self) -> SharedEngine:
        """The engine, waited for as long as ``patience`` has it. Raises ``EngineDeadError``."""
        if not self.healthy and self.patience and not self._closed:
            if self._engine is not None:  # it has just stopped, and is about to be replaced
                self._loaded.clear()
            try:
                await asyncio.wait_for(self._loaded.wait(), self.patience)
            except TimeoutError:
                pass
        if self._engine is None:
            raise EngineDeadError(f"The engine is not available: {self._trouble}.", retry_after=5)
        return self._engine

    # -- requests -----------------------------------------------------------------------------------------------------

    async def submit(self, request: EngineRequest) -> None:
        """Hand the request over; returns when the engine has taken it. Raises what is wrong with it, or
        ``EngineDeadError``."""
        await (await self._available()).submit(request)

    def abort(self, request_id: str) -> None:
        """Stop a request; unknown ids are ignored. No output for it follows."""
        if self._engine is not None:
            self._engine.abort(request_id)

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """One list per step of the engine, from one life of its process to the next; ends after ``close()``. One
        consumer."""
        while True:
            while self._lives:
                async for outputs in self._lives[0].steps():
                    yield outputs
                self._lives.popleft()
            if self._closed:
                return
            self._turned.clear()
            await self._turned.wait()

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Embed token sequences. Raises ``NotSupportedError`` where the engine cannot."""
        return await (await self._available()).embed(token_id_lists)

    async def expand(self, media: Media) -> list[int]:
        """The prompt as it will be computed. Raises ``NotSupportedError`` where the engine perceives nothing."""
        return await (await self._available()).expand(media)

    async def adapt(self, name: str, path: str | None) -> None:
        """Load or unload an adapter, in this process and in those that take its place. Raises ``BadRequestError``."""
        if path is not None and not self.adapter_form.fits(Path(path)):
            raise BadRequestError(f"An adapter of this model is {self.adapter_form.wanted}.", param="lora_path")
        await (await self._available()).adapt(name, path)
        if path is not None:
            self._adapters[name] = path
        else:
            self._adapters.pop(name, None)

    async def flush_cache(self) -> bool:
        """Forget cached prefixes; False while requests use them."""
        return await (await self._available()).flush_cache()
