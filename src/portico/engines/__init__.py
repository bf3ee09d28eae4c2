"""The seam: any engine that turns token ids into token ids.

An engine knows the words of ``events`` and nothing above it: no text, no templates, no stop strings, no tools.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from portico.events import EngineOutput, EngineRequest, Media

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Described",
    "EmbeddingBatch",
    "Engine",
    "EngineInfo",
    "FlushesCache",
    "GivesSigns",
    "Perceives",
    "TakesAdapters",
    "TellsCacheUsage",
]


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is and can do. Known after ``start()``.

    ``capabilities`` holds any of ``generate``, ``embed``, ``logprobs``, ``logprob_ids`` (of tokens that the request
    names), ``prompt_logprobs``, ``constraints``, ``lora``, ``priority``, ``thinking_budget``, ``cache_salt``,
    ``image`` and ``audio`` (both ``Perceives``). ``metadata`` is for people (architecture, quantisation, versions).
    """

    model: str
    context_length: int  # tokens, prompt and answer together
    vocab_size: int
    capabilities: frozenset[str]
    eos_token_ids: frozenset[int] = frozenset()
    max_logprobs: int = 20
    embedding_size: int | None = None
    media_places: bool = False  # it wants to be told where media stand, not to find the template's own placeholders
    audio_rate: int = 0  # samples a second of the sounds that it hears
    resumes: frozenset[str] = frozenset()  # what of an interrupted answer it takes up exactly: see ``resuming``
    adapters: tuple[str, ...] = ()  # LoRA adapters, which requests name
    metadata: dict[str, Any] = field(default_factory=dict)


class Described:
    """An engine that learns what it is while it starts, and sets ``_info`` then."""

    _info: EngineInfo | None = None

    @property
    def info(self) -> EngineInfo:
        """Known after ``start()``."""
        if self._info is None:
            raise RuntimeError("the engine has not been started")
        return self._info


@dataclass(frozen=True)
class EmbeddingBatch:
    """``vectors`` is float32 of shape (inputs, embedding_size), L2-normalised where the model asks for it."""

    vectors: npt.NDArray[np.float32]
    prompt_tokens: Sequence[int]  # per input


class Engine(Protocol):
    """One model behind the front door. All methods run on the front door's event loop and never block it."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def healthy(self) -> bool:
        """False while the engine is dead or restarting."""
        ...

    async def start(self) -> None:
        """Load the model. Raises ``EngineError`` with a clear message when that cannot be done."""
        ...

    async def close(self) -> None:
        """Release everything; idempotent. Requests in flight end with finish reason ``abort``."""
        ...

    async def submit(self, request: EngineRequest) -> None:
        """Admit a request. Raises before any output exists: ``BadRequestError`` (ids, grammar), ``EngineDeadError``."""
        ...

    def abort(self, request_id: str) -> None:
        """Stop a request; unknown ids are ignored. No output for it follows."""
        ...

    def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """The outputs of all requests, one list per engine step; ends after ``close()``. One consumer."""
        ...

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Embed token sequences. Raises ``NotSupportedError`` where the model cannot, ``EngineLostError`` where the
        engine dies over it."""
        ...


@runtime_checkable
class FlushesCache(Protocol):
    """What an engine may do beside: forget its prefix cache."""

    async def flush_cache(self) -> bool:
        """True when nothing of earlier prompts is kept."""
        ...


@runtime_checkable
class TakesAdapters(Protocol):
    """What an engine may do beside: load and unload LoRA adapters while it runs."""

    async def adapt(self, name: str, path: str | None) -> None:
        """Load the adapter at ``path`` as ``name``, in place of one that is called so; None: unload it. Requests that
        use one that goes are not cut off. Raises ``BadRequestError`` for what does not fit."""
        ...


@runtime_checkable
class TellsCacheUsage(Protocol):
    """What an engine may do beside: say how full its KV cache is."""

    @property
    def cache_usage(self) -> float | None:
        """The share of it that running requests hold, some seconds ago; None while that is not known."""
        ...


@runtime_checkable
class GivesSigns(Protocol):
    """What an engine may do beside that is not watched over where it runs: say that it is not hung."""

    async def give_sign(self) -> None:
        """Returns when the batch that is being computed is done."""
        ...


@runtime_checkable
class Perceives(Protocol):
    """What an engine may do beside: see or hear, as its capabilities say."""

    async def expand(self, media: Media) -> list[int]:
        """The prompt's tokens with as many in each medium's place as it takes, whatever their ids. Raises
        ``BadRequestError`` for media that the model cannot take."""
        ...
