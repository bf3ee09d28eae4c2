"""Decisions: questions about one input, each answered by the probabilities of its options (OpenAI's, autumn of 2026).

Every option gets a label that is one token of the vocabulary: Yes and No for a predicate, digits for the levels of a
score, letters for choices. The model is shown the options under their labels and may say one label, and nothing else.
The softmax of the labels' logprobs is the answer: however long an option is, one token decides, and neither its length
nor its spelling counts for or against it. The questions stand behind the input, each in a prompt of its own, so that an
engine with a prefix cache computes the input once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson
from msgspec import structs

from portico.errors import BadRequestError, EngineError, NotSupportedError
from portico.events import SamplingParams, TokenLogprob
from portico.generation import Delta, Generation, GenerationSpec, Model, answer_opening
from portico.prompting import Prompt, Tokenizer
from portico.protocols.openai.decision_schema import Choice, DecisionRequest, Part, Predicate, Question, Score
from portico.protocols.openai.sampling import max_new_tokens
from portico.protocols.places import Origin, Places
from portico.protocols.responses.conversation import Conversation, read_conversation
from portico.protocols.responses.sealing import Sealer

__all__ = ["DecisionBody", "DecisionRequest", "asked", "generations", "read_input"]

# -- what the model reads ---------------------------------------------------------------------------------------------


def read_input(request: DecisionRequest) -> Conversation:
    """The input as a conversation. Raises ``BadRequestError`` naming the item at fault."""
    if isinstance(request.input, str):
        return Conversation([{"role": "user", "content": request.input}], [Origin(["input"])])
    found = read_conversation([_without_data(item, f"input[{n}]") for n, item in enumerate(request.input)], Sealer())
    if not found.messages:
        raise BadRequestError("input: there is nothing to decide about.", param="input")
    return found


def _without_data(item: dict[str, Any], path: str) -> dict[str, Any]:
    """The item with its parts of JSON as parts of text."""
    content = item.get("content")
    if not isinstance(content, list):
        return item
    return {**item, "content": [_text_of_data(part, f"{path}.content[{n}]") for n, part in enumerate(content)]}


def _text_of_data(part: Any, path: str = "") -> Any:
    if not isinstance(part, dict) or part.get("type") != "input_json":
        return part
    if not isinstance(data := part.get("data"), dict | list):
        raise BadRequestError(f"{path}.data must be an object or a list of objects.", param=f"{path}.data")
    return {"type": "input_text", "text": json.dumps(data, ensure_ascii=False)}


def asked(
    request: DecisionRequest, index: int, conversation: Conversation, tokenizer: Tokenizer
) -> tuple[list[dict[str, Any]], Places]:
    """The conversation with a question behind it, and where its parts come from.

    The question stands in the last message where that is the user's: there are templates that know no two of one role.
    """
    question = request.questions[index]
    _check_options(question, index, len(_labels(question, tokenizer)))
    parts = [*_instructions(question.instructions), _text(_options_shown(question, tokenizer))]
    path = f"questions[{index}].instructions"
    bare = isinstance(question.instructions, str)
    paths = [path if bare else f"{path}[{n}]" for n in range(len(parts) - 1)]
    messages, origins = list(conversation.messages), list(conversation.origins)
    if messages[-1]["role"] == "user":
        content = messages.pop()["content"]
        given = [_text(content)] if isinstance(content, str) else content
        parts, paths = [*given, *parts], [*origins.pop().parts, *paths]
    plain = all(isinstance(part, dict) and part.get("type") in ("text", "input_text") for part in parts)
    content = "\n\n".join(str(part.get("text")) for part in parts) if plain else parts
    return [*messages, {"role": "user", "content": content}], Places([*origins, Origin(paths)], [], root="input")


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _instructions(instructions: str | Sequence[Part]) -> list[dict[str, Any]]:
    if isinstance(instructions, str):
        return [_text(instructions)]
    return [_text_of_data(part.model_dump(exclude_none=True)) for part in instructions]


def _options_shown(question: Question, tokenizer: Tokenizer) -> str:
    """The options under their labels, and what the model is to say."""
    if isinstance(question, Choice):
        typed = any(isinstance(option.value, bool) for option in question.choices)  # true is not "true"
        names = [json.dumps(one.value) if typed else str(one.value) for one in question.choices]
        described = [one.description for one in question.choices]
        head, tail = "The options:", "Answer with the letter of the best option, and nothing else."
    elif isinstance(question, Score):
        names, described = [one.label for one in question.levels], [one.description for one in question.levels]
        head = "The levels, from the lowest to the highest:"
        tail = "Answer with the mark in front of the level that fits best, and nothing else."
    else:
        return "Answer Yes if that is so, and No if it is not. Say one word, and nothing else."
    lines = [
        f"{label}. {name}" + (f": {words}" if words else "")
        for label, name, words in zip(_labels(question, tokenizer), names, described, strict=True)
    ]
    return "\n".join([head, *lines, "", tail])


# -- labels -----------------------------------------------------------------------------------------------------------

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"


def _options(question: Question) -> int:
    if isinstance(question, Choice):
        return len(question.choices)
    return len(question.levels) if isinstance(question, Score) else 2


def _labels(question: Question, tokenizer: Tokenizer) -> tuple[str, ...]:
    """A label for each option of the question, in order; fewer where the vocabulary has no more."""
    many = _options(question)
    if isinstance(question, Predicate):
        return ("Yes", "No")
    few = isinstance(question, Score) and many <= len(_DIGITS)
    return tuple(_DIGITS[:many] if few else _lettered(tokenizer)[:many])


@lru_cache(maxsize=16)
def _lettered(tokenizer: Tokenizer) -> Sequence[str]:
    """Letters, then pairs of them that are one token."""
    pairs = (one + other for one in _LETTERS for other in _LETTERS)
    return [*_LETTERS, *(pair for pair in pairs if len(tokenizer.encode(pair)) == 1)]


def _check_options(question: Question, index: int, distinct: int) -> None:
    if distinct < _options(question):
        field = "levels" if isinstance(question, Score) else "choices"
        raise NotSupportedError(
            f"This model's vocabulary has tokens to tell {distinct} options apart, and no more.",
            param=f"questions[{index}].{field}",
        )


@lru_cache(maxsize=256)
def _label_ids(labels: Sequence[str], before: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The token with which each label begins behind a text."""
    start = tokenizer.encode(before)
    found = []
    for label in labels:
        ids = tokenizer.encode(before + label)
        behind = ids[len(start) :] if ids[: len(start)] == start else tokenizer.encode(label)
        found += behind[:1]
    return tuple(found)


# -- the generations --------------------------------------------------------------------------------------------------


def generations(request: DecisionRequest, prompts: Sequence[Prompt], model: Model, request_id: str) -> list[Generation]:
    """One generation of one token for each question. Raises ``BadRequestError`` for what cannot be decided."""
    if "logprob_ids" not in model.capabilities:
        raise NotSupportedError(
            "This engine does not tell how likely given tokens are, so it cannot decide.", param="model"
        )
    found = []
    for index, (question, prompt) in enumerate(zip(request.questions, prompts, strict=True)):
        opening = answer_opening(model, prompt.tail)
        opening_ids = model.tokenizer.encode(opening)
        ids, media = [*prompt.token_ids, *opening_ids], prompt.perceived
        if media is not None:
            media = structs.replace(media, token_ids=[*media.token_ids, *opening_ids])
        max_new_tokens(len(ids), 1, model, "input")
        labels = _labels(question, model.tokenizer)
        label_ids = _label_ids(labels, prompt.tail + opening, model.tokenizer)
        _check_options(question, index, len(set(label_ids)))
        spec = GenerationSpec(
            request_id=request_id if len(prompts) == 1 else f"{request_id}-{index}",
            prompt_ids=ids,
            media=media,
            prompt_tail=prompt.tail + opening,
            sampling=SamplingParams(
                max_tokens=1, temperature=0.0, allowed_token_ids=label_ids, logprobs=0, logprob_ids=label_ids
            ),
            lora=model.lora,
        )
        found.append(Generation(spec, model.tokenizer))
    return found


# -- the answer -------------------------------------------------------------------------------------------------------


class DecisionBody:
    """Deltas of all generations of a request -> the body of the answer."""

    def __init__(self, request: DecisionRequest, generations: Sequence[Generation], model: Model) -> None:
        self._questions = request.questions
        self._generations = generations
        self._model = model
        self._tokens: dict[int, TokenLogprob] = {}

    def feed(self, delta: Delta, position: int = 0) -> None:
        """Take the token of the question at ``position``."""
        if delta.logprobs:
            self._tokens[position] = delta.logprobs[0]

    def body(self) -> bytes:
        """The response body, once every question has its token. Raises ``EngineError`` where one has none."""
        answers = [_answer(question, self._probabilities(n)) for n, question in enumerate(self._questions)]
        return orjson.dumps({"model": self._model.name, "answers": answers, "usage": self._usage()})

    def _probabilities(self, position: int) -> list[float]:
        """Those of the labels of a question, in order; their sum is 1."""
        token = self._tokens.get(position)
        labels = self._generations[position].spec.sampling.logprob_ids
        if token is None or len(token.top) != len(labels):
            raise EngineError(f"The engine gave no probabilities for questions[{position}].")
        logprobs = [logprob for _, logprob in token.top]
        weights = [math.exp(logprob - max(logprobs)) for logprob in logprobs]
        total = sum(weights)
        return [weight / total for weight in weights]

    def _usage(self) -> dict[str, Any]:
        usages = [generation.usage for generation in self._generations]
        read = sum(usage.prompt_tokens for usage in usages)
        written = sum(usage.completion_tokens for usage in usages)
        return {
            "input_tokens": read,
            "input_tokens_details": {
                "cached_tokens": sum(usage.cached_tokens or 0 for usage in usages),
                "cache_write_tokens": 0,
            },
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        }


def _answer(question: Question, probabilities: Sequence[float]) -> dict[str, Any]:
    """The answer to a question. ``confidence`` is the probability of the likeliest option."""
    highest = max(probabilities)
    if isinstance(question, Choice):
        told = [
            {"value": option.value, "probability": probability}
            for option, probability in zip(question.choices, probabilities, strict=True)
        ]
        chosen = question.choices[probabilities.index(highest)].value
        rest: dict[str, Any] = {"choice": chosen, "confidence": highest, "probabilities": told}
    elif isinstance(question, Score):
        told = [
            {"value": value, "label": level.label, "probability": probability}
            for value, (level, probability) in enumerate(zip(question.levels, probabilities, strict=True))
        ]
        score = sum(value * probability for value, probability in enumerate(probabilities))
        rest = {"score": score, "confidence": highest, "probabilities": told}
    else:
        rest = {"probability": probabilities[0]}
    return {"type": question.type, "name": question.name, **rest}  # type: ignore[attr-defined]
