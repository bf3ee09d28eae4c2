"""From request fields to ``SamplingParams``: defaults, ranges that depend on the model, limits of the server."""

from __future__ import annotations

from collections.abc import Sequence

from portico.errors import BadRequestError, ContextLengthError, NotSupportedError
from portico.events import SamplingParams, ThoughtBudget
from portico.generation import Model
from portico.prompting import Prompt
from portico.protocols.openai.schema import GenerationRequest
from portico.protocols.sampling import defaulted, nucleus, temperature

__all__ = ["cut_to", "max_new_tokens", "sampling_params", "stop_strings"]


def max_new_tokens(prompt_tokens: int, requested: int | None, model: Model, param: str) -> int:
    """How many tokens may be generated: what was asked for (-1: all; None: what the operator says, or all), cut to what
    the context still holds.

    Raises ``ContextLengthError`` when the prompt leaves room for none.
    """
    room = model.context_length - prompt_tokens
    if room < 1:
        raise ContextLengthError(
            f"This model's context is {model.context_length} tokens, and the prompt has {prompt_tokens}, "
            "which leaves no room for an answer. Shorten the prompt.",
            param=param,
        )
    wanted = model.sampling.get("max_tokens") if requested is None else requested
    return room if wanted is None or wanted == -1 else min(wanted, room)


def cut_to(request: GenerationRequest, prompt: Prompt, model: Model, max_tokens: int | None = None) -> Prompt:
    """The prompt within the request's ``truncate_prompt_tokens``; -1 is what the context holds beside the answer."""
    limit = request.truncate_prompt_tokens
    if limit is None:
        return prompt
    room = max(1, model.context_length - max(1, max_tokens or 1))
    return model.prompter.cut(prompt, room if limit == -1 else min(limit, room), request.truncation_side or "left")


def stop_strings(request: GenerationRequest, model: Model) -> list[str]:
    """``stop`` as a list, checked."""
    stops = request.stop_strings
    if len(stops) > model.limits.stop_strings:
        raise BadRequestError(
            f"At most {model.limits.stop_strings} stop strings are allowed; this request has {len(stops)}.",
            param="stop",
        )
    if any(not stop for stop in stops):
        raise BadRequestError("A stop string must not be empty.", param="stop")
    return stops


def sampling_params(
    request: GenerationRequest,
    model: Model,
    *,
    max_tokens: int,
    logprobs: int | None,
    thought: ThoughtBudget | None = None,
) -> SamplingParams:
    """The request's sampling rules, complete and in range for ``model``."""
    limits = model.limits
    if (request.n or 1) > limits.choices:
        raise BadRequestError(f"'n' must be at most {limits.choices}.", param="n")
    if logprobs is not None and logprobs > model.max_logprobs:
        field = "top_logprobs" if "top_logprobs" in type(request).model_fields else "logprobs"
        raise BadRequestError(f"'{field}' must be at most {model.max_logprobs}.", param=field)
    if logprobs is not None and "logprobs" not in model.capabilities:
        raise NotSupportedError("This engine has no logprobs.", param="logprobs")
    if request.prompt_logprobs is not None:
        _check_prompt_logprobs(request, request.prompt_logprobs, model)
    min_tokens = request.min_tokens or 0
    if min_tokens > max_tokens:
        raise BadRequestError(
            f"'min_tokens' ({min_tokens}) is more than the {max_tokens} tokens this request may generate.",
            param="min_tokens",
        )
    allowed = request.allowed_token_ids
    if allowed is not None:
        if not allowed:
            raise BadRequestError("'allowed_token_ids' must not be empty.", param="allowed_token_ids")
        _check_ids(allowed, model, "allowed_token_ids")
    _check_ids(request.stop_token_ids or (), model, "stop_token_ids")
    seed = request.seed
    top_p, top_k = nucleus(request.top_p, request.top_k)
    params = SamplingParams(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=temperature(request.temperature),
        top_p=top_p,
        top_k=top_k,
        min_p=request.min_p or 0.0,
        seed=None if seed is None or seed == -1 else seed,
        repetition_penalty=1.0 if request.repetition_penalty is None else request.repetition_penalty,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        logit_bias=_logit_bias(request.logit_bias, model),
        allowed_token_ids=None if allowed is None else tuple(allowed),
        bad_words=_bad_words(request.bad_words or (), model),
        stop_token_ids=frozenset(request.stop_token_ids or ()),
        ignore_eos=bool(request.ignore_eos),
        logprobs=logprobs,
        prompt_logprobs=request.prompt_logprobs,
        thought=thought,
    )
    return defaulted(params, request, model)


def _check_prompt_logprobs(request: GenerationRequest, wanted: int, model: Model) -> None:
    param = "prompt_logprobs"
    if wanted > model.max_logprobs:
        raise BadRequestError(f"'prompt_logprobs' must be at most {model.max_logprobs}.", param=param)
    if request.stream:
        raise BadRequestError("'prompt_logprobs' cannot be streamed; leave 'stream' out.", param=param)
    if "prompt_logprobs" not in model.capabilities:
        raise NotSupportedError("This engine has no logprobs for prompt tokens.", param=param)


def _check_ids(ids: Sequence[int], model: Model, param: str) -> None:
    if ids and max(ids) >= model.vocab_size:
        raise BadRequestError(
            f"'{param}' holds an id outside the vocabulary of {model.vocab_size} tokens.", param=param
        )


def _logit_bias(bias: dict[str, float] | None, model: Model) -> dict[int, float]:
    """Keys are token ids as text (JSON has no other keys); values are cut to OpenAI's range of -100..100."""
    result: dict[int, float] = {}
    for key, value in (bias or {}).items():
        if not (key.isascii() and key.isdigit()) or int(key[:20]) >= model.vocab_size:
            raise BadRequestError(
                f"Keys of 'logit_bias' must be token ids below {model.vocab_size}, written as digits.",
                param="logit_bias",
            )
        result[int(key)] = max(-100.0, min(100.0, value))
    return result


def _bad_words(words: Sequence[str], model: Model) -> tuple[tuple[int, ...], ...]:
    """Each word as the token sequences it has at the start of a text and after a space."""
    if len(words) > model.limits.bad_words:
        raise BadRequestError(f"At most {model.limits.bad_words} bad words are allowed.", param="bad_words")
    sequences: list[tuple[int, ...]] = []
    for word in words:
        for spelling in (word, " " + word.lstrip()):
            ids = tuple(model.tokenizer.encode(spelling, add_special_tokens=False))
            if ids and ids not in sequences:
                sequences.append(ids)
    return tuple(sequences)
