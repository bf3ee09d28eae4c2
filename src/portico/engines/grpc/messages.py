"""Engine requests as ``GenerateRequest``, and the answers as ``EngineOutput``. Pure.

In this protocol the token that ended an answer is the last of its ids, and that it was the end is said by the message
that follows. So an id that may be an end is held until then, and given as ``stop_token`` if it was one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from portico.errors import (
    BadRequestError,
    EngineDeadError,
    EngineError,
    NotSupportedError,
    OverloadedError,
    PorticoError,
)
from portico.events import EngineOutput, EngineRequest, FinishReason, TokenLogprob
from portico.protos.vllm_engine_pb2 import (
    GenerateComplete,
    GenerateRequest,
    GenerateResponse,
    GenerateStreamChunk,
    InputLogProbs,
    OutputLogProbs,
    SamplingParams,
    TokenizedInput,
)

__all__ = ["Reader", "error_of", "generate_request"]

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort", "error": "error"}


# -- towards the engine -----------------------------------------------------------------------------------------------


def generate_request(request: EngineRequest, *, takes_lark: bool) -> GenerateRequest:
    """The request as the protocol writes it; ``takes_lark`` says how the server wants its constraints.

    Raises ``NotSupportedError`` for what the protocol has no field for.
    """
    rules = request.sampling
    for name, given in (
        ("lora", request.lora),
        ("media", request.media),
        ("cache_salt", request.cache_salt),  # a promise to share no prefix, which cannot be kept
        ("allowed_token_ids", rules.allowed_token_ids),
        ("bad_words", rules.bad_words),
        ("thinking_token_budget", rules.thought),
    ):
        if given:
            raise NotSupportedError(f"This engine's protocol has no '{name}'; leave it out.", param=name)
    sampling = SamplingParams(
        temperature=rules.temperature,
        top_p=rules.top_p,
        top_k=rules.top_k,
        min_p=rules.min_p,
        frequency_penalty=rules.frequency_penalty,
        presence_penalty=rules.presence_penalty,
        repetition_penalty=rules.repetition_penalty,
        max_tokens=rules.max_tokens,
        min_tokens=rules.min_tokens,
        stop_token_ids=sorted(rules.stop_token_ids),
        skip_special_tokens=False,
        ignore_eos=rules.ignore_eos,
        n=1,
        logprobs=rules.logprobs,
        prompt_logprobs=rules.prompt_logprobs,
        seed=None if rules.seed is None else rules.seed & 0x7FFF_FFFF,
        logit_bias=dict(rules.logit_bias),
    )
    constraint = request.constraint
    if constraint is not None:
        sampling.grammar_from_first_token = True
        if takes_lark:
            sampling.grammar = constraint.lark
        elif constraint.structural_tag is not None:
            sampling.structural_tag = json.dumps(constraint.structural_tag)
        else:
            raise NotSupportedError(
                "This engine takes constraints as structural tags, which cannot say this one.", param="constraint"
            )
    return GenerateRequest(
        request_id=request.request_id,
        tokenized=TokenizedInput(input_ids=request.token_ids),
        sampling_params=sampling,
        stream=True,
        portico_generated=request.generated,
        data_parallel_rank=request.data_parallel_rank,
    )


# -- from the engine --------------------------------------------------------------------------------------------------


class Reader:
    """Reads the answer to one request. ``ends`` are the ids that may end it."""

    def __init__(self, request: EngineRequest, ends: Collection[int]) -> None:
        rules = request.sampling
        self._id = request.request_id
        self._ends = frozenset(rules.stop_token_ids) | (frozenset() if rules.ignore_eos else frozenset(ends))
        self._wants_logprobs = rules.logprobs is not None
        self._top = rules.logprobs or 0
        self._prompt_top = rules.prompt_logprobs or 0
        self._held: tuple[int, TokenLogprob | None] | None = None
        self._begun = False
        self._taken_up = bool(request.generated)

    def feed(self, response: GenerateResponse) -> EngineOutput | None:
        """What one message tells, if anything."""
        if response.HasField("complete"):
            return self._end(response.complete)
        return self._more(response.chunk)

    def _more(self, chunk: GenerateStreamChunk) -> EngineOutput | None:
        ids = list(chunk.token_ids)
        if ids and ids[-1] not in self._ends and self._begun and self._held is None and not self._wants_logprobs:
            return EngineOutput(self._id, ids)  # nearly all
        logprobs = self._logprobs(chunk.output_logprobs, ids)
        if self._held is not None:
            token, logprob = self._held
            ids.insert(0, token)
            if logprob is not None:
                logprobs.insert(0, logprob)
            self._held = None
        if ids and ids[-1] in self._ends:
            kept = len(ids) - 1
            self._held = ids.pop(), logprobs[kept] if len(logprobs) > kept else None
            del logprobs[kept:]
        output = self._output(ids, logprobs)
        if not self._begun:
            self._begun = True
            output.cached_tokens = None if self._taken_up else chunk.cached_tokens
            output.prompt_logprobs = _prompt_logprobs(chunk.input_logprobs, self._prompt_top)
        elif not ids:
            return None
        return output

    def _end(self, complete: GenerateComplete) -> EngineOutput:
        ids: list[int] = []
        logprobs: list[TokenLogprob] = []
        if not self._begun:  # nothing was streamed, so the whole answer is here
            ids = list(complete.output_ids)
            logprobs = self._logprobs(complete.output_logprobs, ids)
        elif self._held is not None:
            token, logprob = self._held
            ids, logprobs = [token], [] if logprob is None else [logprob]
        output = self._output(ids, logprobs)
        if not self._begun:
            output.cached_tokens = None if self._taken_up else complete.cached_tokens
            output.prompt_logprobs = _prompt_logprobs(complete.input_logprobs, self._prompt_top)
        output.finish_reason = _REASONS.get(complete.finish_reason, "stop")
        if output.finish_reason == "stop" and ids and ids[-1] in self._ends:
            output.stop_token = ids.pop()
            del logprobs[len(ids) :]
        if output.finish_reason == "error":
            output.error = "The engine failed on this request."
        return output

    def _output(self, ids: list[int], logprobs: list[TokenLogprob]) -> EngineOutput:
        return EngineOutput(self._id, ids, logprobs=logprobs if self._wants_logprobs else None)

    def _logprobs(self, given: OutputLogProbs, ids: Sequence[int]) -> list[TokenLogprob]:
        if not self._wants_logprobs:
            return []
        tops = given.top_logprobs
        return [
            TokenLogprob(
                token,
                given.token_logprobs[place] if place < len(given.token_logprobs) else 0.0,
                _top(tops[place].token_ids, tops[place].values, self._top) if place < len(tops) else (),
            )
            for place, token in enumerate(ids)
        ]


def _top(ids: Sequence[int], values: Sequence[float], count: int) -> tuple[tuple[int, float], ...]:
    """The ``count`` most likely of the alternatives, most likely first; some servers add the sampled token."""
    pairs = sorted(zip(ids, values, strict=False), key=lambda pair: -pair[1])
    return tuple(pairs[:count])


def _prompt_logprobs(given: InputLogProbs, top: int) -> list[TokenLogprob | None] | None:
    if not given.token_ids:
        return None
    return [
        TokenLogprob(token, value.value, _top(others.token_ids, others.values, top))
        if value.HasField("value")
        else None
        for token, value, others in zip(given.token_ids, given.token_logprobs, given.top_logprobs, strict=False)
    ]


# -- what went wrong --------------------------------------------------------------------------------------------------


def error_of(code: str, details: str, param: str | None = None) -> PorticoError:
    """The error that a call's status code (its name) means to the client of this request."""
    if code == "INVALID_ARGUMENT":
        return BadRequestError(details or "The engine refused this request.", param=param)
    if code in ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"):
        return OverloadedError(details or "The engine is overloaded.", retry_after=1)
    if code in ("UNAVAILABLE", "CANCELLED"):
        return EngineDeadError("The engine is not available: its connection was lost.", retry_after=1)
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return EngineError("The engine does not accept this server's key.")
    if code == "UNIMPLEMENTED":
        return NotSupportedError("The engine does not offer this.")
    return EngineError(details or "The engine failed on this request.")
