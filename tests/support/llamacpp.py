"""An engine over a real model with its step loop running, for tests that speak to it request by request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from portico.engines.llamacpp import LlamaCppEngine
from portico.events import Constraint, EngineOutput, EngineRequest, SamplingParams, TokenLogprob

__all__ = ["Answer", "Client"]


@dataclass
class Answer:
    """What came for one request, folded."""

    request_id: str
    outputs: list[EngineOutput] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ids(self) -> list[int]:
        return [token for output in self.outputs for token in output.token_ids]

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [one for output in self.outputs for one in output.logprobs or ()]

    @property
    def margins(self) -> list[float]:
        """By how much each token was likelier than the next best, in logprob; needs ``logprobs=2`` and greed."""
        return [one.top[0][1] - one.top[1][1] for one in self.logprobs]

    @property
    def first(self) -> EngineOutput:
        return self.outputs[0]

    @property
    def last(self) -> EngineOutput:
        return self.outputs[-1]

    @property
    def finish(self) -> str | None:
        return self.last.finish_reason


class Client:
    """Submits to ``engine`` and gathers its steps. Use as an async context manager: it starts and closes the engine."""

    def __init__(self, engine: LlamaCppEngine) -> None:
        self.engine = engine
        self.answers: dict[str, Answer] = {}
        self.steps: list[list[str]] = []  # the request ids of every step
        self._numbers = count()

    async def __aenter__(self) -> Client:
        await self.engine.start()
        self._task = asyncio.create_task(self._consume())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()
        await asyncio.wait_for(self._task, 120)

    async def _consume(self) -> None:
        async for outputs in self.engine.steps():
            self.steps.append([output.request_id for output in outputs])
            for output in outputs:
                answer = self.answers[output.request_id]
                assert not answer.done.is_set(), "output after the end"
                answer.outputs.append(output)
                answer.begun.set()
                if output.finish_reason is not None:
                    answer.done.set()

    async def submit(
        self,
        token_ids: Sequence[int],
        *,
        lark: str | None = None,
        priority: int = 0,
        salt: str | None = None,
        lora: str | None = None,
        generated: Sequence[int] = (),
        **rules: Any,
    ) -> Answer:
        """Submit a request (greedy, 16 tokens, unless told otherwise)."""
        answer = Answer(f"request-{next(self._numbers)}")
        self.answers[answer.request_id] = answer
        await self.engine.submit(
            EngineRequest(
                answer.request_id,
                token_ids,
                SamplingParams(**{"max_tokens": 16, "temperature": 0.0, **rules}),
                constraint=None if lark is None else Constraint(lark),
                priority=priority,
                cache_salt=salt,
                lora=lora,
                generated=generated,
            )
        )
        return answer

    async def finished(self, answer: Answer) -> Answer:
        """Wait for the end of an answer."""
        await asyncio.wait_for(answer.done.wait(), 120)
        return answer

    async def run(self, token_ids: Sequence[int], **rules: Any) -> Answer:
        """Submit and wait."""
        return await self.finished(await self.submit(token_ids, **rules))
