"""The embedded engine's process seen from the front door. Its standard error is read and kept for one purpose: to say
why it died."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

import msgspec

from portico.engines.llamacpp import waiting
from portico.engines.llamacpp.tuning import Tuning
from portico.engines.process import EngineProcess

__all__ = ["LlamaCppProcess", "Load"]

_KEPT_STDERR: Final = 4096  # bytes

_ENVIRONMENT: Final = {
    **waiting.ENVIRONMENT,
    "GGML_NO_BACKTRACE": "1",  # or a failed assertion starts a debugger
}


class Load(msgspec.Struct):
    """What the process is to load and how. None is for the engine to choose."""

    model_path: str
    model_id: str
    context_length: int | None
    max_sequences: int
    threads: int
    batch_tokens: int
    cache_tokens: int | None
    embedding: bool
    projector_path: str | None = None
    adapters: dict[str, str] = {}  # files by name
    tuning: Tuning = Tuning()


class LlamaCppProcess(EngineProcess):
    """Leaves at the end of its socket."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self._load = load

    async def _spawn(self, connection: socket.socket) -> asyncio.subprocess.Process:
        return await self._start_module(
            "portico.engines.llamacpp.child",
            *(str(os.getpid()), msgspec.json.encode(self._load).decode()),
            connection=connection,
            environment=_ENVIRONMENT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )

    async def _last_words(self, process: asyncio.subprocess.Process) -> str:
        """The last line that it wrote."""
        tail = b""
        assert process.stderr is not None
        while data := await process.stderr.read(4096):
            tail = (tail + data)[-_KEPT_STDERR:]
        lines = [line.strip() for line in tail.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""
