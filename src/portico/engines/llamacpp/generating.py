"""The generating half of the engine's process: requests in, one list of outputs per step out.

A step is: plan, edit the cache, decode one batch (or one medium), sample every row that is complete. While sequences
decode, a prefill batch is cut so that it takes about ``SLICE`` seconds; the rate is measured as it goes, so the same
rule serves a small model and a large one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from portico.engines.llamacpp.grammar import Grammar, GrammarError
from portico.engines.llamacpp.libllama import LlamaError
from portico.engines.llamacpp.model import MAX_SEQUENCES, Adapter, Batch, Context, Model
from portico.engines.llamacpp.projector import Chunk, Projector, Seen
from portico.engines.llamacpp.sampling import Sampler, Scores
from portico.engines.llamacpp.scheduler import Scheduler
from portico.engines.llamacpp.slots import Copy, Piece, Plan, Restore, Sequence, position
from portico.events import EngineOutput, EngineRequest, TokenLogprob

__all__ = ["Generator"]

SLICE: Final = 0.2  # seconds of prefill between two tokens of the others
SMALLEST_SLICE: Final = 16  # tokens; less would waste the batch
PROMPT_ROWS: Final = 64  # logit rows of one batch, for prompt logprobs: each is one float per vocabulary entry
DEFAULT_CONTEXT: Final = 32768  # tokens, where the model's own context is longer and nobody asked for it
CELLS_PER_SEQUENCE: Final = 512  # what the cache holds for each concurrent sequence, unless it is told
CACHED_PER_SEQUENCE: Final = 2  # slots that keep prefixes, for each concurrent sequence
CACHED_STATES: Final = 4  # the same for models with a recurrent state, of which each slot has one, large or small
STATE_BYTES: Final = 256 << 20  # for copies of such states
AT_ONCE: Final = 1280  # tokens of a batch at least, for models that must have a whole image in one


@dataclass(eq=False)
class _Job:
    """A request in progress."""

    request: EngineRequest
    sequence: Sequence
    sampler: Sampler
    adapter: Adapter | None = None
    prompt_logprobs: list[TokenLogprob | None] | None = None
    started: bool = False  # its first output has been given


class Generator:
    """One model generating for many requests, of what ``projector`` shows it too, with the ``adapters`` (files by name)
    that they ask for. Raises ``LlamaError`` when the model cannot generate, or an adapter is none of this model."""

    def __init__(
        self,
        model: Model,
        *,
        context_length: int | None,
        max_sequences: int,
        threads: int,
        batch_tokens: int,
        cache_tokens: int | None,
        projector: Projector | None = None,
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        if model.has_encoder or model.is_diffusion:
            raise LlamaError("this architecture does not generate token by token; use a decoder-only model")
        self.model, self._projector = model, projector
        if projector is not None and projector.at_once:
            batch_tokens = max(batch_tokens, AT_ONCE)
        self.context_length = model.context_length(context_length, DEFAULT_CONTEXT)
        max_sequences = min(max_sequences, batch_tokens, MAX_SEQUENCES // (1 + CACHED_PER_SEQUENCE))
        slots = max_sequences + (CACHED_STATES if model.has_state else CACHED_PER_SEQUENCE * max_sequences)
        rows = max(PROMPT_ROWS, slots)
        self.adapters: dict[str, Adapter] = {}
        self._leaving: list[Adapter] = []  # unloaded, and perhaps still used
        for name, path in (adapters or {}).items():
            self._load_adapter(name, path)
        self._context = Context(
            model,
            cells=max(self.context_length, cache_tokens or CELLS_PER_SEQUENCE * max_sequences),
            batch_tokens=batch_tokens,
            sequences=slots,
            outputs=rows,
            threads=threads,
        )
        if not self._context.has_memory:
            raise LlamaError("this is an embedding model; it does not generate")
        self.cache_tokens = self._context.cells
        self._scheduler = Scheduler(
            slots=slots,
            cells=self.cache_tokens,
            max_sequences=max_sequences,
            batch_tokens=self._context.batch_tokens,
            max_rows=rows,
            state_bytes=STATE_BYTES if model.has_state else None,
            window=model.window,
            first_kept=self._context.first_position,
        )
        self._batch = Batch(self._context.batch_tokens)
        self._jobs: dict[Sequence, _Job] = {}
        self._sequences: dict[str, Sequence] = {}
        self._prefill_rate = 100.0  # tokens per second; replaced by what is measured

    @property
    def batch_tokens(self) -> int:
        """What one batch may have."""
        return self._context.batch_tokens

    @property
    def idle(self) -> bool:
        return self._scheduler.idle

    def submit(self, request: EngineRequest, grammar: Grammar | None, seen: Seen | None = None) -> None:
        """Queue a checked request; ``seen`` is its prompt if that has media."""
        adapter = None if request.lora is None else self.adapters[request.lora]
        sequence = Sequence(
            request.request_id,
            [*(request.token_ids if seen is None else seen.tokens), *request.generated],
            spans=() if seen is None else seen.spans,
            salt=(request.cache_salt, adapter),
            priority=request.priority,
            adapter=adapter,
            every_position=request.sampling.prompt_logprobs is not None and not request.generated,
        )
        sampler = Sampler(self.model, request, self.context_length, grammar)
        self._jobs[sequence] = _Job(request, sequence, sampler, adapter, started=bool(request.generated))
        self._sequences[request.request_id] = sequence
        self._scheduler.submit(sequence)

    def abort(self, request_id: str) -> None:
        """Drop a request; unknown ids are ignored."""
        sequence = self._sequences.get(request_id)
        if sequence is not None:
            self._end(sequence)

    def flush(self) -> bool:
        """Forget cached prefixes; True when none is left."""
        return self._scheduler.flush()

    def adapt(self, name: str, path: str | None) -> None:
        """Load an adapter, in place of the one of that name; without ``path`` unload it. Requests keep the one that
        they have. Raises ``LlamaError`` for what does not fit."""
        was = self.adapters.get(name)
        if path is not None:
            self._load_adapter(name, path)
        else:
            self.adapters.pop(name, None)
        if was is not None:
            self._leaving.append(was)
            self._free_adapters()

    def _load_adapter(self, name: str, path: str) -> None:
        try:
            self.adapters[name] = Adapter(self.model, path)
        except LlamaError as error:
            raise LlamaError(f"the adapter '{name}' cannot be loaded: {error}") from None

    def _free_adapters(self) -> None:
        """Give back the memory of those that nobody uses any more."""
        used = {sequence.adapter for sequence in self._jobs}
        for adapter in [one for one in self._leaving if one not in used]:
            self._leaving.remove(adapter)
            self._context.adapt(None)
            adapter.close()

    def _end(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        self._jobs.pop(sequence).sampler.close()
        del self._sequences[sequence.key]
        if self._leaving:
            self._free_adapters()

    @property
    def cache_usage(self) -> float:
        """The share of the cache's cells that running requests hold."""
        return self._scheduler.pool.pinned / self._scheduler.pool.capacity

    def step(self) -> list[EngineOutput]:
        """Do one batch; what it gave, possibly nothing. Raises ``LlamaError`` when the context can be used no more."""
        plan = self._scheduler.plan(max(SMALLEST_SLICE, int(self._prefill_rate * SLICE)))
        for edit in plan.edits:
            if isinstance(edit, Copy):
                self._context.copy(edit.source, edit.target, edit.end)
            elif isinstance(edit, Restore):
                self._context.restore(edit.slot, edit.checkpoint.data)
            else:
                self._context.remove(edit.slot, edit.start)
        self._context.adapt(self._jobs[plan.pieces[0].sequence].adapter)
        if plan.pieces[0].span is not None:
            self._perceive(plan.pieces[0])
            rows = [0]  # none: a medium is never a prompt's end
        else:
            rows = self._fill(plan)
        started = time.perf_counter()
        if self._batch.size:
            self._context.decode(self._batch)
        for slot, checkpoint in plan.checkpoints:
            checkpoint.data = self._context.state(slot)
        outputs = [
            output
            for piece, row in zip(plan.pieces, rows, strict=True)
            if (output := self._take(self._jobs[piece.sequence], piece.start, piece.count, row)) is not None
        ]
        if plan.prefill and self._batch.size:
            rate = self._batch.size / (time.perf_counter() - started)
            self._prefill_rate += (rate - self._prefill_rate) / 4
        return outputs

    def _fill(self, plan: Plan) -> list[int]:
        """Lay the pieces into the batch; the batch index of the first logit row of each."""
        self._batch.clear()
        rows = []
        for piece in plan.pieces:
            sequence = piece.sequence
            tokens = sequence.tokens[piece.start : piece.start + piece.count]
            wanted = len(tokens) if sequence.every_position else int(sequence.remaining == 0)
            rows.append(self._batch.add(tokens, position(sequence.spans, piece.start), piece.slot, wanted))
        return rows

    def _perceive(self, piece: Piece) -> None:
        """Compute a medium; the batch stays empty."""
        self._batch.clear()
        assert self._projector is not None
        assert piece.span is not None
        assert isinstance(piece.span.chunk, Chunk)
        at = position(piece.sequence.spans, piece.start)
        self._projector.compute(self._context, piece.span.chunk, at, piece.slot)

    def _take(self, job: _Job, start: int, count: int, row: int) -> EngineOutput | None:
        """What a piece's rows give its request."""
        sequence = job.sequence
        if sequence.every_position:
            self._score_prompt(job, start, count, row)
        if sequence.remaining:
            return None  # part of a prompt; the row of its last token comes alone, in a decode step
        try:
            output = job.sampler.next(self._context, row)
        except GrammarError as error:
            output = EngineOutput(
                sequence.key, (), finish_reason="error", error=f"The grammar became too complex: {error}"
            )
        if not job.started:
            job.started = True
            output.cached_tokens, output.prompt_logprobs = sequence.cached, job.prompt_logprobs
            sequence.every_position = False  # should it be preempted, its prompt need not be scored again
        sequence.tokens.extend(output.token_ids)
        if output.finish_reason is not None:
            self._end(sequence)
        return output

    def _score_prompt(self, job: _Job, start: int, count: int, row: int) -> None:
        """Logprobs of the prompt tokens after each of the ``count`` positions from ``start`` on."""
        if start == 0:
            job.prompt_logprobs = [None]
        assert job.prompt_logprobs is not None
        top = job.request.sampling.prompt_logprobs or 0
        following = job.sequence.tokens[start + 1 : start + count + 1]
        for offset, token in enumerate(following):
            job.prompt_logprobs.append(Scores(self._context.logits(row + offset), top).of(token))
