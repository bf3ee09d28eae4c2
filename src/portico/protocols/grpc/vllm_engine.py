"""``vllm.grpc.engine.VllmEngine`` over a model: a GenerateRequest becomes a generation, its deltas become responses.

Where the published protocol leaves a choice, this does what vLLM's own server does:
- A zero in a field that is not optional is its neutral value; no ``max_tokens`` is as many as the context holds.
- A streamed choice is chunks, each with what is new, then one complete that repeats the ids of its last chunk. Without
  streaming there is only the complete. Choices are told apart by index.
- The token that ended a choice is the last of its ids, and counted. ``matched_token_id`` is set where the client had
  named it; ``matched_stop_str`` where a stop string was found.
- A constraint holds from the first token on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico.errors import BadRequestError, NotSupportedError
from portico.events import TokenLogprob
from portico.generation import Delta, GenerationSpec, Model, TokenChoice, TokenGeneration, promised
from portico.protocols.bounds import largest
from portico.protocols.openai.sampling import max_new_tokens, sampling_params, stop_strings
from portico.protocols.openai.schema import CompletionRequest
from portico.protocols.validation import parse_fields
from portico.protos.vllm_engine_pb2 import (
    GenerateComplete,
    GenerateRequest,
    GenerateResponse,
    GenerateStreamChunk,
    GetModelInfoResponse,
    InputLogProbs,
    InputTokenLogProb,
    OutputLogProbs,
    SamplingParams,
    TopLogProbs,
)

__all__ = ["GenerateEncoder", "generation", "model_info", "prompt"]


def prompt(request: GenerateRequest) -> str | list[int]:
    """The request's prompt, text or token ids. Raises ``BadRequestError`` for what cannot be served."""
    if request.HasField("mm_inputs") or request.HasField("media_refs") or request.extra_mm_inputs:
        raise NotSupportedError("This server takes no media in this call; leave them out.", param="mm_inputs")
    if request.HasField("kv_transfer_params") or request.kv_transfer_params_json:
        raise NotSupportedError("This server does not transfer KV caches.", param="kv_transfer_params_json")
    found = request.text if request.WhichOneof("input") == "text" else list(request.tokenized.input_ids)
    if not found:
        raise BadRequestError("'tokenized.input_ids' must not be empty.", param="tokenized.input_ids")
    return found


def generation(request: GenerateRequest, prompt_ids: Sequence[int], model: Model, request_id: str) -> TokenGeneration:
    """Decide everything about the request before admission. Raises ``BadRequestError`` naming the field."""
    wanted = request.sampling_params
    fields = _completion_fields(wanted)
    checked = parse_fields(CompletionRequest, fields)
    if prompt_ids and largest(prompt_ids) >= model.vocab_size:
        raise BadRequestError(
            f"'tokenized.input_ids' holds an id outside the vocabulary of {model.vocab_size} tokens.",
            param="tokenized.input_ids",
        )
    generated = list(request.portico_generated)
    if generated and (checked.n or 1) > 1:
        raise BadRequestError("'portico_generated' is of one answer: leave 'n' out.", param="portico_generated")
    if generated and largest(generated) >= model.vocab_size:
        raise BadRequestError("'portico_generated' holds an id outside the vocabulary.", param="portico_generated")
    if wanted.HasField("truncate_prompt_tokens"):
        prompt_ids = _truncated(prompt_ids, wanted.truncate_prompt_tokens, model)
    max_tokens = max_new_tokens(len(prompt_ids), checked.max_tokens, model, "tokenized.input_ids")
    promise = promised(model, "", structured_outputs=_structured(wanted), plain=True)
    spec = GenerationSpec(
        request_id=request_id,
        prompt_ids=prompt_ids,
        sampling=sampling_params(checked, model, max_tokens=max_tokens, logprobs=checked.logprobs),
        n=checked.n or 1,
        stop=stop_strings(checked, model),
        include_stop=wanted.include_stop_str_in_output,
        skip_special_tokens=wanted.skip_special_tokens,
        constraint=promise.constraint,
        generated=generated,
        data_parallel_rank=request.data_parallel_rank if request.HasField("data_parallel_rank") else None,
    )
    return TokenGeneration(spec, model.tokenizer)


def _completion_fields(wanted: SamplingParams) -> dict[str, Any]:
    """The sampling rules as fields of a completion request, whose bounds hold here too."""
    fields: dict[str, Any] = {
        "prompt": "",
        "top_p": wanted.top_p or 1.0,
        "top_k": wanted.top_k,
        "min_p": wanted.min_p,
        "frequency_penalty": wanted.frequency_penalty,
        "presence_penalty": wanted.presence_penalty,
        "repetition_penalty": wanted.repetition_penalty or 1.0,
        "min_tokens": wanted.min_tokens,
        "stop": list(wanted.stop),
        "stop_token_ids": list(wanted.stop_token_ids),
        "ignore_eos": wanted.ignore_eos,
        "n": wanted.n or 1,
        "logit_bias": {str(token): bias for token, bias in wanted.logit_bias.items()},
    }
    for name in ("temperature", "max_tokens", "logprobs", "prompt_logprobs", "seed"):
        if wanted.HasField(name):
            fields[name] = getattr(wanted, name)
    return fields


def _structured(wanted: SamplingParams) -> dict[str, Any] | None:
    """The constraint as ``structured_outputs``, which spells its kinds almost alike."""
    kind = wanted.WhichOneof("constraint")
    if kind is None:
        return None
    if kind == "choice":
        return {"choice": list(wanted.choice.choices)}
    return {"json" if kind == "json_schema" else kind: getattr(wanted, kind)}


def _truncated(prompt_ids: Sequence[int], keep: int, model: Model) -> Sequence[int]:
    """The last ``keep`` tokens; -1 keeps what leaves room for an answer."""
    if keep == -1:
        keep = model.context_length - 1
    if keep < 1:
        raise BadRequestError("'truncate_prompt_tokens' must be -1 or at least 1.", param="truncate_prompt_tokens")
    return prompt_ids[-keep:]


class GenerateEncoder:
    """Deltas of one generation -> responses."""

    def __init__(self, generation: TokenGeneration, *, stream: bool) -> None:
        self._generation = generation
        self._stream = stream
        self._told_prompt = [False] * generation.spec.n
        self._ids: list[list[int]] = [[] for _ in range(generation.spec.n)]  # not streamed: all; streamed: the last
        self._logprobs: list[list[TokenLogprob]] = [[] for _ in range(generation.spec.n)]

    def feed(self, delta: Delta) -> list[GenerateResponse]:
        """The responses of one delta."""
        choice = self._choice(delta.index)
        ids = delta.all_token_ids
        if self._stream:
            self._ids[delta.index], self._logprobs[delta.index] = ids, list(delta.logprobs or ())
        else:
            self._ids[delta.index] += ids
            self._logprobs[delta.index] += delta.logprobs or ()
        responses = []
        if self._stream and ids:
            responses.append(GenerateResponse(chunk=self._chunk(delta, choice, ids)))
        if delta.finish is not None:
            responses.append(GenerateResponse(complete=self._complete(choice, delta.finish.reason, delta.stop_reason)))
        return responses

    def joined(self, responses: Sequence[GenerateResponse]) -> list[GenerateResponse]:
        """The same in fewer responses: for each choice one chunk with all that is new, for a client that lags."""
        found: list[GenerateResponse] = []
        chunks: dict[int, GenerateStreamChunk] = {}
        for response in responses:
            if response.WhichOneof("response") == "chunk":
                new = response.chunk
                chunk = chunks.setdefault(new.index, new)
                if chunk is not new:
                    tokens = chunk.completion_tokens + new.completion_tokens
                    chunk.MergeFrom(new)
                    chunk.completion_tokens = tokens
                    continue
            found.append(response)
        return found

    def aborted(self) -> list[GenerateResponse]:
        """The end of every choice that has none yet, when the client stopped the request by another call."""
        return [
            GenerateResponse(complete=self._complete(self._choice(index), "abort", None))
            for index, choice in enumerate(self._generation.choices)
            if not choice.finished
        ]

    def _choice(self, index: int) -> TokenChoice:
        choice = self._generation.choices[index]
        assert isinstance(choice, TokenChoice)
        return choice

    def _chunk(self, delta: Delta, choice: TokenChoice, ids: list[int]) -> GenerateStreamChunk:
        chunk = GenerateStreamChunk(
            token_ids=ids,
            prompt_tokens=len(self._generation.spec.prompt_ids),
            completion_tokens=len(ids),
            cached_tokens=choice.cached_tokens or 0,
            index=delta.index,
        )
        if delta.logprobs:
            chunk.output_logprobs.CopyFrom(_output_logprobs(delta.logprobs))
        if not self._told_prompt[delta.index]:
            self._told_prompt[delta.index] = True
            self._tell_prompt(chunk, choice)
        return chunk

    def _complete(self, choice: TokenChoice, reason: str, stop_reason: str | int | None) -> GenerateComplete:
        ids = self._ids[choice.index]
        complete = GenerateComplete(
            output_ids=ids,
            finish_reason=reason,
            prompt_tokens=len(self._generation.spec.prompt_ids),
            completion_tokens=len(ids),
            cached_tokens=choice.cached_tokens or 0,
            index=choice.index,
        )
        if isinstance(stop_reason, int):
            complete.matched_token_id = stop_reason
        elif stop_reason is not None:
            complete.matched_stop_str = stop_reason
        if self._logprobs[choice.index]:
            complete.output_logprobs.CopyFrom(_output_logprobs(self._logprobs[choice.index]))
        if not self._stream:
            self._tell_prompt(complete, choice)
        return complete

    def _tell_prompt(self, message: GenerateStreamChunk | GenerateComplete, choice: TokenChoice) -> None:
        if choice.prompt_logprobs is not None:
            message.input_logprobs.CopyFrom(_input_logprobs(self._generation.spec.prompt_ids, choice.prompt_logprobs))


def _output_logprobs(logprobs: Sequence[TokenLogprob]) -> OutputLogProbs:
    return OutputLogProbs(
        token_logprobs=[one.logprob for one in logprobs],
        token_ids=[one.token_id for one in logprobs],
        top_logprobs=[_top(one) for one in logprobs],
    )


def _input_logprobs(ids: Sequence[int], logprobs: Sequence[TokenLogprob | None]) -> InputLogProbs:
    return InputLogProbs(
        token_logprobs=[
            InputTokenLogProb() if one is None else InputTokenLogProb(value=one.logprob) for one in logprobs
        ],
        token_ids=ids,
        top_logprobs=[TopLogProbs() if one is None else _top(one) for one in logprobs],
    )


def _top(one: TokenLogprob) -> TopLogProbs:
    return TopLogProbs(values=[logprob for _, logprob in one.top], token_ids=[token for token, _ in one.top])


def model_info(model: Model) -> GetModelInfoResponse:
    """What clients choose and check requests by. ``tokenizer_path`` is empty: the files come by GetTokenizer."""
    tokenizer = model.tokenizer
    return GetModelInfoResponse(
        model_path=model.name,
        served_model_name=model.name,
        is_generation="generate" in model.capabilities,
        max_context_length=model.context_length,
        max_req_input_len=model.context_length - 1,
        vocab_size=model.vocab_size,
        eos_token_ids=sorted(tokenizer.eos_token_ids),
        bos_token_id=-1 if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        pad_token_id=-1,
    )
