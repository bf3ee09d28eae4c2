"""What the engine refuses before any work is done: a pure check of a request against the engine's facts.

The front door has range-checked what clients send; an engine is also used as a library, and a value that reaches
native code unchecked can end the process, so everything is checked once more where it is cheap: here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from portico.engines import EngineInfo
from portico.errors import BadRequestError, ContextLengthError, NotSupportedError
from portico.events import EngineRequest, Media, Medium, SamplingParams

__all__ = ["check_embedding_inputs", "check_media", "check_request"]

LONGEST_SIDE = 1 << 14  # pixels
MOST_SAMPLES = 1 << 28


def check_request(request: EngineRequest, info: EngineInfo) -> None:
    """Raise ``BadRequestError`` (or a child of it) naming the field, if the engine cannot serve ``request``."""
    if request.data_parallel_rank:
        raise NotSupportedError("This engine has one replica; leave 'data_parallel_rank' out.")
    _check_ids(request.token_ids, info.vocab_size, "prompt")
    if request.generated:
        _check_ids(request.generated, info.vocab_size, "generated")
    sampling = request.sampling
    _check_sampling(sampling, info)
    if request.media is not None:
        check_media(request.media, info)
        if any(len(item.data) != _bytes(item) for item in request.media.items):
            raise BadRequestError("A medium has more or fewer bytes than its size says.", param="media")
        if sampling.prompt_logprobs is not None:
            raise NotSupportedError(
                "'prompt_logprobs' cannot be had of a prompt with media; leave it out.", param="prompt_logprobs"
            )
    prompt, room = len(request.token_ids), info.context_length
    if prompt + max(len(request.generated), min(1, sampling.max_tokens)) > room:
        raise ContextLengthError(
            f"This model's context is {room} tokens, but the prompt has {prompt}; shorten the prompt"
            + (" to leave room for an answer." if prompt <= room else "."),
            param="prompt",
        )


def check_media(media: Media, info: EngineInfo) -> None:
    """Raise ``BadRequestError`` for media of impossible sizes or at impossible places, ``NotSupportedError`` for those
    that the model does not perceive."""
    for item in media.items:
        if item.kind not in info.capabilities:
            raise NotSupportedError(f"This model does not perceive media of kind '{item.kind}'.", param="media")
        first, second = item.size
        most = (LONGEST_SIDE, LONGEST_SIDE) if item.kind == "image" else (MOST_SAMPLES, info.audio_rate)
        if not (0 < first <= most[0] and 0 < second <= most[1]):
            raise BadRequestError("A medium is empty, or larger than this engine takes.", param="media")
    at = 0
    for place in media.places:
        if not at <= place <= len(media.token_ids):
            raise BadRequestError("The places of media must be in order, and in the prompt.", param="media")
        at = place
    if len(media.places) != len(media.items):
        raise BadRequestError("Each medium must have its place.", param="media")


def _bytes(item: Medium) -> int:
    return item.size[0] * item.size[1] * 3 if item.kind == "image" else item.size[0] * 4


def check_embedding_inputs(inputs: Sequence[Sequence[int]], info: EngineInfo) -> None:
    """Raise ``BadRequestError`` for an input that is empty, too long or holds bad ids."""
    for index, token_ids in enumerate(inputs):
        name = f"input[{index}]"
        _check_ids(token_ids, info.vocab_size, name)
        if len(token_ids) > info.context_length:
            raise ContextLengthError(
                f"'{name}' has {len(token_ids)} tokens; this model embeds at most {info.context_length}. Shorten it.",
                param="input",
            )


def _check_ids(token_ids: Iterable[int], vocab_size: int, name: str) -> None:
    token_ids = list(token_ids)
    if not token_ids:
        raise BadRequestError(f"'{name}' must hold at least one token.", param=name)
    if not all(type(token) is int for token in token_ids):
        raise BadRequestError(f"'{name}' must hold token ids, which are integers.", param=name)
    if min(token_ids) < 0 or max(token_ids) >= vocab_size:
        raise BadRequestError(f"'{name}' holds an id outside the vocabulary of {vocab_size} tokens.", param=name)


def _check_sampling(rules: SamplingParams, info: EngineInfo) -> None:
    for name in ("max_tokens", "min_tokens", "top_k", "seed", "logprobs", "prompt_logprobs"):
        if not -(1 << 63) <= (getattr(rules, name) or 0) < 1 << 63:
            raise BadRequestError(f"'{name}' must fit in 64 bits.", param=name)
    if rules.thought is not None and not 0 <= rules.thought.tokens < 1 << 63:
        raise BadRequestError("'thought.tokens' must be 0 or more and fit in 64 bits.", param="thought")
    ranges = (
        ("max_tokens", rules.max_tokens, rules.max_tokens >= 0, "0 or more"),
        ("min_tokens", rules.min_tokens, rules.min_tokens >= 0, "0 or more"),
        ("temperature", rules.temperature, rules.temperature >= 0, "0 or more"),
        ("top_p", rules.top_p, 0 < rules.top_p <= 1, "above 0 and at most 1"),
        ("top_k", rules.top_k, 0 <= rules.top_k < 1 << 31, "0 (off) or more"),
        ("min_p", rules.min_p, 0 <= rules.min_p <= 1, "between 0 and 1"),
        ("repetition_penalty", rules.repetition_penalty, rules.repetition_penalty > 0, "above 0"),
        ("frequency_penalty", rules.frequency_penalty, True, "a number"),
        ("presence_penalty", rules.presence_penalty, True, "a number"),
        ("logprobs", rules.logprobs or 0, 0 <= (rules.logprobs or 0) <= info.max_logprobs, f"0 to {info.max_logprobs}"),
        (
            "prompt_logprobs",
            rules.prompt_logprobs or 0,
            0 <= (rules.prompt_logprobs or 0) <= info.max_logprobs,
            f"0 to {info.max_logprobs}",
        ),
    )
    for name, value, fits, wanted in ranges:
        if not (math.isfinite(value) and fits):
            raise BadRequestError(f"'{name}' must be {wanted}.", param=name)
    if rules.logit_bias:
        _check_ids(rules.logit_bias, info.vocab_size, "logit_bias")
        if not all(math.isfinite(bias) for bias in rules.logit_bias.values()):
            raise BadRequestError("'logit_bias' values must be finite numbers.", param="logit_bias")
    if rules.allowed_token_ids is not None:
        _check_ids(rules.allowed_token_ids, info.vocab_size, "allowed_token_ids")
    if rules.logprob_ids:
        _check_ids(rules.logprob_ids, info.vocab_size, "logprob_ids")
    for word in rules.bad_words:
        _check_ids(word, info.vocab_size, "bad_words")
    if rules.stop_token_ids:
        _check_ids(rules.stop_token_ids, info.vocab_size, "stop_token_ids")
    if rules.thought is not None:
        _check_ids(rules.thought.close, info.vocab_size, "thought.close")
        if not rules.thought.closers or not all(word.strip() for word in rules.thought.closers):
            raise BadRequestError("'thought.closers' must hold at least one marker, none blank.", param="thought")
