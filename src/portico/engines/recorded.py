"""The recorded engine: gives out, once, the very steps that another engine gave to one client request.

For replaying a recorded request: the n-th engine request submitted gets the outputs of choice n, in the order in which
they were recorded. When all are given and taken, ``exhausted`` is called: what ended the answer, if not the last step,
did not come from the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from msgspec.structs import replace

from portico.engines import EmbeddingBatch, EngineInfo
from portico.errors import NotSupportedError, PorticoError
from portico.events import EngineOutput, EngineRequest

__all__ = ["RecordedEngine"]


class RecordedEngine:
    """Plays ``outputs``, pairs of a choice's number and what it got, to ``choices`` engine requests.

    The first ``early`` of them are given before the last ``submit`` returns. ``refusal`` is raised by ``submit``.
    """

    def __init__(
        self,
        info: EngineInfo,
        outputs: Sequence[tuple[int, EngineOutput]],
        *,
        choices: int,
        early: int = 0,
        refusal: PorticoError | None = None,
        exhausted: Callable[[], None] = lambda: None,
    ) -> None:
        self.info = info
        self.healthy = True
        self._outputs = outputs
        self._choices = choices
        self._early = early
        self._refusal = refusal
        self._exhausted = exhausted
        self._submitted: list[str] = []
        self._begun = asyncio.Event()
        self._given_early = asyncio.Event()
        self._all = asyncio.Event()
        self._closed = asyncio.Event()

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """``steps`` ends."""
        self._closed.set()
        self._begun.set()
        self._all.set()

    async def submit(self, request: EngineRequest) -> None:
        """Take the next choice's request; with the last one the steps begin."""
        if self._refusal is not None:
            raise self._refusal
        self._submitted.append(request.request_id)
        if len(self._submitted) == self._choices:
            self._begun.set()
            if self._early:
                await self._given_early.wait()
            self._all.set()

    def abort(self, request_id: str) -> None:
        """Nothing to stop: nobody takes what is left."""

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """One output per step, as recorded."""
        await self._begun.wait()
        for number, (choice, output) in enumerate(self._outputs):
            if number == self._early:
                self._given_early.set()
                await self._all.wait()
            if self._closed.is_set():
                return
            yield [replace(output, request_id=self._submitted[choice])]
            await asyncio.sleep(0)
        self._given_early.set()
        await self._all.wait()
        if not self._closed.is_set():
            self._exhausted()
        await self._closed.wait()

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Vectors are not recorded."""
        raise NotSupportedError("Embeddings are not recorded.")
