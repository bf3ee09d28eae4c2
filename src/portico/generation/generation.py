"""One request on its way through the line: its choices, its usage, how each one finished.

A ``Generation`` is made before admission with everything decided, gives the engine its requests, and then turns engine
outputs into ``Delta``s, choice by choice. It knows nothing of protocols above or of tasks and sockets; the server feeds
it, encoders read it. Non-streaming answers are the fold of the same deltas.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import count

from msgspec.structs import replace

from portico.events import EngineRequest
from portico.generation.choice import Choice
from portico.generation.spec import GenerationSpec
from portico.prompting import Tokenizer

__all__ = ["Generation", "Usage"]


@dataclass
class Usage:
    """Token counts of a request so far."""

    prompt_tokens: int
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int | None = None  # None: the engine does not say


_numbers = count()


@dataclass
class Generation:
    """A request in flight. Feed it every output of its engine requests; it is done when all choices are.

    ``number`` makes its engine requests' ids unique: clients name their requests, and two may choose one name.
    """

    spec: GenerationSpec
    tokenizer: Tokenizer
    choices: list[Choice] = field(init=False)
    number: int = field(init=False, default_factory=partial(next, _numbers))

    def __post_init__(self) -> None:
        self.choices = [Choice(index, self.spec, self.tokenizer) for index in range(self.spec.n)]

    @property
    def engine_ids(self) -> list[str]:
        """The ids of the engine requests, choice by choice."""
        return [f"{self.spec.request_id}-{self.number}-{index}" for index in range(self.spec.n)]

    def engine_requests(self) -> list[EngineRequest]:
        """One engine request per choice. Seeds differ by choice, so that equal prompts give different answers."""
        spec = self.spec
        requests = []
        for index, request_id in enumerate(self.engine_ids):
            sampling = spec.sampling
            if sampling.seed is not None and index:
                sampling = replace(sampling, seed=sampling.seed + index)
            requests.append(
                EngineRequest(
                    request_id=request_id,
                    token_ids=spec.prompt_ids,
                    sampling=sampling,
                    constraint=spec.constraint,
                    priority=spec.priority,
                    cache_salt=spec.cache_salt,
                    cache_key=spec.cache_key,
                    lora=spec.lora,
                    data_parallel_rank=spec.data_parallel_rank,
                    trace_headers=spec.trace_headers,
                    generated=spec.generated,
                    media=spec.media,
                )
            )
        return requests

    @property
    def finished(self) -> bool:
        """True once every choice has its finish."""
        return all(choice.finished for choice in self.choices)

    @property
    def usage(self) -> Usage:
        """Tokens so far; the prompt counts once however many choices there are."""
        cached = [choice.cached_tokens for choice in self.choices if choice.cached_tokens is not None]
        return Usage(
            prompt_tokens=len(self.spec.prompt_ids),
            completion_tokens=sum(choice.completion_tokens for choice in self.choices),
            reasoning_tokens=sum(choice.reasoning_tokens for choice in self.choices),
            cached_tokens=min(cached) if cached else None,
        )
