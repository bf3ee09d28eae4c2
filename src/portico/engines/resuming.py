"""Taking up an answer that has begun elsewhere: what it takes to do so exactly, and how an engine that knows nothing
but prompts is asked.

``EngineRequest.generated`` are the tokens that exist. An engine gives only what comes after them, and ends where it
would have ended: they count for ``max_tokens`` and ``min_tokens``, for penalties, for the budget of a thought, and the
grammar has read them. ``EngineInfo.resumes`` says which of these an engine can do. What is drawn is drawn afresh: a
seed makes the continuation repeatable, not equal to what an undisturbed answer would have been.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from portico.engines import EngineInfo
from portico.errors import NotSupportedError
from portico.events import EngineRequest

__all__ = ["AS_PROMPT", "EVERYTHING", "as_prompt", "can_resume", "continued_seed", "needs"]

ANSWER: Final = "answer"  # tokens that exist are taken at all
PENALTIES: Final = "penalties"  # frequency and presence, which count the answer and not the prompt
THOUGHT: Final = "thought"  # its budget
CONSTRAINT: Final = "constraint"

EVERYTHING: Final = frozenset({ANSWER, PENALTIES, THOUGHT, CONSTRAINT})
AS_PROMPT: Final = frozenset({ANSWER})  # what ``as_prompt`` keeps exact; repetition counts prompt and answer alike


def needs(request: EngineRequest) -> frozenset[str]:
    """What an engine must be able to take up, should this request's answer be interrupted."""
    rules = request.sampling
    wanted = {ANSWER}
    if rules.frequency_penalty or rules.presence_penalty:
        wanted.add(PENALTIES)
    if rules.thought is not None:
        wanted.add(THOUGHT)
    if request.constraint is not None:
        wanted.add(CONSTRAINT)
    return frozenset(wanted)


def can_resume(info: EngineInfo, request: EngineRequest) -> bool:
    """Whether the engine takes up this request's answer exactly."""
    return needs(request) <= info.resumes


def as_prompt(request: EngineRequest) -> EngineRequest:
    """The same request for an engine that takes what exists for a part of the prompt. There must be something left to
    generate. Raises ``NotSupportedError`` where that would not be exact."""
    count = len(request.generated)
    if not count:
        return request
    if lacking := needs(request) - AS_PROMPT:
        raise NotSupportedError(f"This engine cannot take up an answer with its {' and '.join(sorted(lacking))}.")
    rules, media = request.sampling, request.media
    return replace(
        request,
        token_ids=[*request.token_ids, *request.generated],
        media=None if media is None else replace(media, token_ids=[*media.token_ids, *request.generated]),
        generated=(),
        sampling=replace(
            rules,
            max_tokens=rules.max_tokens - count,
            min_tokens=max(0, rules.min_tokens - count),
            seed=continued_seed(rules.seed, count),
            prompt_logprobs=None,  # given already
        ),
    )


def continued_seed(seed: int | None, count: int) -> int | None:
    """A seed for what follows ``count`` tokens, so that they are not drawn by the very numbers that drew the first."""
    return seed if seed is None or not count else (seed * 0x9E3779B1 + count) & 0x7FFF_FFFF
