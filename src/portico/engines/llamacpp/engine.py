"""The embedded engine: llama.cpp in a process of its own, because a native crash must not take the front door down.

This is the front door's side: it checks requests and passes them on, one wake-up per step. What is the same for every
engine in a process of its own is in ``revived`` and ``shared``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from portico.engines import EmbeddingBatch
from portico.engines.adapters import GGUF
from portico.engines.llamacpp.admission import check_embedding_inputs, check_media, check_request
from portico.engines.llamacpp.process import LlamaCppProcess, Load
from portico.engines.llamacpp.tuning import Tuning
from portico.engines.revived import SILENCE, RevivedEngine
from portico.engines.shared import SharedEngine
from portico.errors import BadRequestError, EngineDeadError, EngineError, NotSupportedError
from portico.events import EngineRequest, Media

__all__ = ["LlamaCppEngine"]

GRAMMAR_WAIT: Final = 60.0  # seconds that a grammar may take to compile, on a machine that is busy with other things


class LlamaCppEngine(RevivedEngine):
    """A GGUF model on this machine, behind the ``Engine`` protocol.

    ``context_length`` (tokens) None is the model's own, at most 32768. ``max_sequences`` requests decode at a time,
    the rest queue. ``threads`` None is one per available core. ``batch_tokens`` bounds one prefill batch.
    ``cache_tokens`` is how many tokens the KV cache holds, shared by running requests and cached prefixes: at least
    ``context_length``, and 512 for each sequence unless said. A token's entry takes 2 bytes x layers x (key width +
    value width): 23 kB for SmolLM2-135M. With ``embedding`` the model embeds, and nothing else. ``projector`` is a file
    with what it sees or hears with, ``adapters`` are GGUF files by name. ``tuning`` is for those who know llama.cpp.
    """

    patience = 30.0
    adapter_form = GGUF

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
        projector: str | os.PathLike[str] | None = None,
        tuning: Tuning | None = None,
        adapters: Mapping[str, str] | None = None,
        silence: float = SILENCE,
    ) -> None:
        super().__init__(silence=silence, adapters=adapters)
        self._path = Path(model_path).absolute()
        self._projector = None if projector is None else Path(projector).absolute()
        self._load = Load(
            str(self._path),
            model_id,
            context_length,
            max(1, max_sequences),
            threads or _available_cores(),
            max(1, batch_tokens),
            cache_tokens,
            embedding,
            None if self._projector is None else str(self._projector),
            self._adapters,
            tuning or Tuning(),
        )

    def _new_process(self) -> LlamaCppProcess:
        return LlamaCppProcess(self._load)

    async def start(self) -> None:
        """Load the model. Raises ``EngineError`` when the file is missing, damaged or of an unknown architecture."""
        for path in (self._path, self._projector):
            if path is not None and not path.is_file():
                raise EngineError(f"The model file {path.name} does not exist.")
        await super().start()

    async def submit(self, request: EngineRequest) -> None:
        """Queue a request; returns when the engine has taken it.

        Raises ``BadRequestError`` for bad ids, values or grammars, ``ContextLengthError`` for too long a prompt, and
        ``EngineDeadError`` when the engine is down and does not come back in time.
        """
        self._need("generate", "This model embeds; it does not generate.")
        check_request(request, self.info)
        try:
            await self._submit(await self._available(), request)
        except EngineDeadError:
            # Not acknowledged, so it never reached native code (a grammar may have): it can safely be tried again.
            if self._closed or request.constraint is not None:
                raise
            await self._submit(await self._available(), request)

    @staticmethod
    async def _submit(engine: SharedEngine, request: EngineRequest) -> None:
        try:
            await asyncio.wait_for(engine.submit(request), None if request.constraint is None else GRAMMAR_WAIT)
        except TimeoutError as error:
            raise BadRequestError(
                f"The grammar took more than {GRAMMAR_WAIT:g} seconds to compile; simplify it.", param="constraint"
            ) from error

    async def expand(self, media: Media) -> list[int]:
        """The prompt as it will be computed, to tell which sizes are enough. Raises ``BadRequestError`` for media that
        the model cannot take."""
        check_media(media, self.info)
        bare = tuple(msgspec.structs.replace(item, data=b"") for item in media.items)
        return await super().expand(msgspec.structs.replace(media, items=bare))

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """One unit vector per token sequence; special tokens are the caller's. Raises as ``submit`` does."""
        self._need("embed", "This model generates; it does not embed.")
        check_embedding_inputs(token_id_lists, self.info)
        if not token_id_lists:
            import numpy as np  # ten megabytes: only where there are vectors

            return EmbeddingBatch(np.empty((0, self.info.embedding_size or 0), dtype=np.float32), [])
        return await super().embed(token_id_lists)

    def _need(self, capability: str, otherwise: str) -> None:
        if capability not in self.info.capabilities:
            raise NotSupportedError(otherwise, param="model")


def _available_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
