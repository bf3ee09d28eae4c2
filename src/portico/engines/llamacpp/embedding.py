"""The embedding half of the engine's process: token sequences in, one pooled unit vector each out.

Inputs of all requests stand in one line and are batched as they come, as many as a batch and its sequences hold. The
model says how it pools; where it does not, encoders take the mean and decoders the last token. Attention looks both
ways, so an input must fit one batch whole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from portico.engines.llamacpp.libllama import LlamaError
from portico.engines.llamacpp.model import POOLING_LAST, POOLING_MEAN, POOLING_NONE, POOLING_RANK, Batch, Context, Model

__all__ = ["Embedder"]

DEFAULT_CONTEXT: Final = 2048  # tokens, where the model's own context is longer and nobody asked for it
BATCHED_INPUTS: Final = 32


@dataclass(eq=False)
class Job:
    """One request: its inputs' vectors, shape (inputs, embedding size), how many are missing, and their tokens."""

    number: int
    vectors: npt.NDArray[np.float32]
    missing: int
    lengths: list[int]


class Embedder:
    """One model embedding for many requests. Raises ``LlamaError`` when the model cannot embed."""

    def __init__(self, model: Model, *, context_length: int | None, threads: int, batch_tokens: int) -> None:
        self._model = model
        self.context_length = model.context_length(context_length, DEFAULT_CONTEXT)

        def context(pooling: int | None) -> Context:
            capacity = max(self.context_length, batch_tokens)
            return Context(
                model,
                cells=capacity,
                batch_tokens=capacity,
                sequences=BATCHED_INPUTS,
                outputs=capacity,
                threads=threads,
                embeddings=True,
                pooling=pooling,
            )

        self._context = context(None)
        if self._context.pooling == POOLING_RANK:
            raise LlamaError("this is a reranker; it does not embed")
        if self._context.pooling == POOLING_NONE:
            pooling = POOLING_LAST if self._context.has_memory else POOLING_MEAN
            self._context.close()
            self._context = context(pooling)
        self._batch = Batch(self._context.batch_tokens)
        self._inputs: deque[tuple[Job, int, list[int]]] = deque()
        self._jobs: dict[int, Job] = {}

    @property
    def idle(self) -> bool:
        return not self._inputs

    def submit(self, number: int, inputs: list[list[int]]) -> None:
        """Queue checked inputs; there is at least one."""
        vectors = np.empty((len(inputs), self._model.embedding_size), dtype=np.float32)
        job = self._jobs[number] = Job(number, vectors, len(inputs), [len(token_ids) for token_ids in inputs])
        self._inputs.extend((job, row, token_ids) for row, token_ids in enumerate(inputs))

    def abort(self, number: int) -> None:
        """Drop a request; unknown numbers are ignored."""
        job = self._jobs.pop(number, None)
        if job is not None:
            self._inputs = deque(entry for entry in self._inputs if entry[0] is not job)

    def step(self) -> list[Job]:
        """Do one batch; the requests it completed."""
        batch = self._batch
        taken: list[tuple[Job, int]] = []
        batch.clear()
        while self._inputs and len(taken) < BATCHED_INPUTS:
            job, row, token_ids = self._inputs[0]
            if batch.size + len(token_ids) > batch.capacity:
                break
            batch.add(token_ids, 0, len(taken), len(token_ids))
            taken.append((job, row))
            self._inputs.popleft()
        if not taken:
            return []
        self._context.clear()
        self._context.decode(batch)
        done = []
        for sequence, (job, row) in enumerate(taken):
            vector = self._context.embedding(sequence)
            job.vectors[row] = vector / max(float(np.linalg.norm(vector)), 1e-12)
            job.missing -= 1
            if not job.missing:
                del self._jobs[job.number]
                done.append(job)
        return done
