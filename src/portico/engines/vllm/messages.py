"""Requests in vLLM's words, and the core's outputs in ours.

vLLM's core ends a request with the token that ended it as the last of its ids; ``ends`` are those that may be one. Its
logprobs are rows of ids and values, the sampled token first, then the most likely ones.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from portico.errors import NotSupportedError
from portico.events import EngineOutput, EngineRequest, FinishReason, Media, TokenLogprob

__all__ = ["engine_output", "media_prompt", "sampling_arguments"]

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort", "repetition": "stop"}


def sampling_arguments(request: EngineRequest) -> dict[str, Any]:
    """The keyword arguments of ``vllm.SamplingParams``, but for ``structured_outputs``: its own arguments."""
    rules = request.sampling
    arguments: dict[str, Any] = {
        "n": 1,
        "max_tokens": rules.max_tokens,
        "min_tokens": rules.min_tokens,
        "temperature": rules.temperature,
        "top_p": rules.top_p,
        "top_k": rules.top_k,
        "min_p": rules.min_p,
        "seed": rules.seed,
        "repetition_penalty": rules.repetition_penalty,
        "frequency_penalty": rules.frequency_penalty,
        "presence_penalty": rules.presence_penalty,
        "logit_bias": dict(rules.logit_bias) or None,
        "allowed_token_ids": None if rules.allowed_token_ids is None else list(rules.allowed_token_ids),
        "stop_token_ids": sorted(rules.stop_token_ids),
        "ignore_eos": rules.ignore_eos,
        "logprobs": rules.logprobs,
        "prompt_logprobs": rules.prompt_logprobs,
        "detokenize": False,
    }
    if rules.logprob_ids:
        arguments["logprob_token_ids"] = list(rules.logprob_ids)
    if rules.thought is not None:  # vLLM counts, and knows by itself what ends a thought
        arguments["thinking_token_budget"] = rules.thought.tokens
    if rules.bad_words:  # vLLM wants them as text, which an engine does not have
        raise NotSupportedError("This engine cannot ban words; leave 'bad_words' out.", param="bad_words")
    if request.constraint is not None:
        tag = request.constraint.structural_tag
        if tag is None:
            raise NotSupportedError(
                "This engine takes constraints as structural tags, which cannot say this one.", param="constraint"
            )
        arguments["structured_outputs"] = {"structural_tag": json.dumps(tag)}
    return arguments


def media_prompt(media: Media) -> dict[str, Any]:
    """A ``TokensPrompt`` of ids as the template wrote them, with its media in order by kind, each known by its digest.

    An image is one of Pillow's, a sound its samples with their rate.
    """
    import numpy as np
    from PIL import Image

    data: dict[str, list[Any]] = {}
    names: dict[str, list[str]] = {}
    for item in media.items:
        given = (
            Image.frombytes("RGB", item.size, item.data)
            if item.kind == "image"
            else (np.frombuffer(item.data, np.float32), item.size[1])
        )
        data.setdefault(item.kind, []).append(given)
        names.setdefault(item.kind, []).append(item.digest)
    return {"prompt_token_ids": list(media.token_ids), "multi_modal_data": data, "multi_modal_uuids": names}


def engine_output(output: Any, request_id: str, request: EngineRequest, ends: Collection[int]) -> EngineOutput:
    """An ``EngineCoreOutput`` as ours. ``ends`` are the ids that may have ended this request."""
    ids: list[int] = list(output.new_token_ids)
    rules = request.sampling
    found = EngineOutput(request_id, ids)
    if rules.logprobs is not None:
        rows = output.new_logprobs
        read = partial(_named, rules.logprob_ids) if rules.logprob_ids else partial(_rows, rules.logprobs)
        found.logprobs = [] if rows is None else read(rows.logprob_token_ids, rows.logprobs)
    if rules.prompt_logprobs is not None and output.new_prompt_logprobs_tensors is not None:
        tensors = output.new_prompt_logprobs_tensors
        rest = _rows(rules.prompt_logprobs, tensors.logprob_token_ids.tolist(), tensors.logprobs.tolist())
        found.prompt_logprobs = [None, *rest]
    if output.prefill_stats is not None:
        found.cached_tokens = output.prefill_stats.num_cached_tokens
    if output.finish_reason is not None:
        found.finish_reason = _REASONS.get(str(output.finish_reason), "error")
        if found.finish_reason == "stop" and ids and ids[-1] in ends:
            found.stop_token = ids.pop()
            if found.logprobs:
                found.logprobs = found.logprobs[: len(ids)]
        if found.finish_reason == "error":
            found.error = "The engine failed on this request."
    return found


def _rows(top: int, ids: Sequence[Sequence[int]], values: Sequence[Sequence[float]]) -> list[TokenLogprob]:
    return [
        TokenLogprob(
            int(row[0]),
            float(logprobs[0]),
            tuple(
                (int(token), float(value)) for token, value in zip(row[1 : 1 + top], logprobs[1 : 1 + top], strict=True)
            ),
        )
        for row, logprobs in zip(ids, values, strict=True)
    ]


def _named(
    wanted: Sequence[int], ids: Sequence[Sequence[int]], values: Sequence[Sequence[float]]
) -> list[TokenLogprob]:
    """The same with the tokens that were asked for, wherever they stand in a row."""
    found = []
    for row, logprobs in zip(ids, values, strict=True):
        known = {int(token): float(value) for token, value in zip(row, logprobs, strict=True)}
        found.append(
            TokenLogprob(int(row[0]), float(logprobs[0]), tuple((one, known[one]) for one in wanted if one in known))
        )
    return found
