"""Completions (the older, text-in text-out API): a request becomes one generation per prompt.

Choice ``index`` is ``prompt position * n + choice``. The text is the model's own: no reasoning or tool parsing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from msgspec.structs import replace

from portico.decoding import CompletionLogprobs, prompt_logprobs
from portico.errors import BadRequestError, NotSupportedError, PorticoError
from portico.events import Content
from portico.generation import Delta, Generation, GenerationSpec, Model, Usage, promised
from portico.prompting import Prompt
from portico.protocols import sse
from portico.protocols.bounds import largest
from portico.protocols.openai import errors
from portico.protocols.openai.sampling import max_new_tokens, sampling_params, stop_strings
from portico.protocols.openai.schema import CompletionRequest, one_by_one
from portico.protocols.openai.usage import usage_body

__all__ = ["CompletionBody", "CompletionStream", "generations", "prompts"]

DEFAULT_MAX_TOKENS = 16  # OpenAI's
FINISH_REASONS = {"stop": "stop", "length": "length", "tool_calls": "stop", "abort": "stop", "error": "stop"}

Logprobs: TypeAlias = dict[str, Any]  # lists that run parallel to each other, by name


def prompts(request: CompletionRequest, model: Model) -> list[str | list[int]]:
    """The request's prompts, each text or token ids, checked. Raises ``BadRequestError``."""
    if request.suffix and (request.echo or not all(isinstance(one, str) for one in one_by_one(request.prompt))):
        raise NotSupportedError("'suffix' goes with prompts of text, and without 'echo'.", param="suffix")
    if request.best_of is not None and request.best_of > (request.n or 1):
        raise NotSupportedError("'best_of' is not supported; use 'n'.", param="best_of")
    found = one_by_one(request.prompt)
    if not found or any(not one for one in found):
        raise BadRequestError("'prompt' must not be empty.", param="prompt")
    if len(found) > model.limits.prompts:
        raise BadRequestError(f"At most {model.limits.prompts} prompts are allowed in one request.", param="prompt")
    for one in found:
        if isinstance(one, str):
            continue
        max_new_tokens(len(one), None, model, "prompt")  # before they are looked at
        if largest(one) >= model.vocab_size:
            raise BadRequestError(
                f"'prompt' holds a token id outside the vocabulary of {model.vocab_size} tokens.", param="prompt"
            )
    return found


def generations(
    request: CompletionRequest, prompts: Sequence[Prompt], model: Model, request_id: str
) -> list[Generation]:
    """One generation per prompt, everything decided. Raises ``BadRequestError`` for what cannot be served."""
    if request.max_tokens == 0 and not request.echo:
        raise BadRequestError("'max_tokens' may be 0 only together with 'echo'.", param="max_tokens")
    promise = promised(
        model,
        "",
        response_format=request.response_format,
        structured_outputs=request.structured_outputs,
        older=request.older_outputs,
        plain=True,
    )
    result = []
    for position, prompt in enumerate(prompts):
        ids = prompt.token_ids
        wanted = (
            model.sampling.get("max_tokens", DEFAULT_MAX_TOKENS) if request.max_tokens is None else request.max_tokens
        )
        max_tokens = max_new_tokens(len(ids), wanted, model, "prompt")
        sampling = sampling_params(request, model, max_tokens=max(1, max_tokens), logprobs=request.logprobs)
        if request.echo and request.logprobs is not None and sampling.prompt_logprobs is None:
            if "prompt_logprobs" not in model.capabilities:
                raise NotSupportedError(
                    "This engine has no logprobs for prompt tokens, so 'echo' cannot be combined with 'logprobs'.",
                    param="echo",
                )
            sampling = replace(sampling, prompt_logprobs=request.logprobs)
        spec = GenerationSpec(
            request_id=request_id if len(prompts) == 1 else f"{request_id}-{position}",
            prompt_ids=ids,
            sampling=sampling,
            n=request.n or 1,
            stop=stop_strings(request, model),
            include_stop=bool(request.include_stop_str_in_output),
            skip_special_tokens=request.skip_special_tokens is not False,
            constraint=promise.constraint,
            left_out=promise.left_out,
            priority=request.priority or 0,
            cache_salt=request.cache_salt,
            lora=model.lora,
        )
        result.append(Generation(spec, model.tokenizer))
    return result


class _Choice:
    """One choice while it grows: what each delta adds to it."""

    def __init__(self, request: CompletionRequest, generation: Generation, model: Model, prompt: Prompt) -> None:
        self.generation = generation
        self.begun = False
        self._only_echo = request.max_tokens == 0
        self._echo = prompt.text if request.echo else ""
        self._logprobs: CompletionLogprobs | None = None
        if request.logprobs is not None:
            self._logprobs = CompletionLogprobs(
                model.tokenizer,
                as_ids=bool(request.return_tokens_as_token_ids),
                skip_special_tokens=generation.spec.skip_special_tokens,
                prompt_ids=() if request.echo else generation.spec.prompt_ids,
            )

    def take(self, delta: Delta) -> tuple[str, Logprobs | None, Sequence[int]]:
        """Text, logprobs and token ids of one delta, the first time behind what is echoed.

        An engine gives at least one token; ``max_tokens`` 0 hides it.
        """
        text, logprobs, token_ids = "", None, delta.all_token_ids
        if not self.begun:  # first, because the positions of what follows go on from there
            text, logprobs = self._echo, self._echoed_logprobs(delta.index)
            self.begun = True
        if self._only_echo:
            return text, logprobs, ()
        text += "".join(event.text for event in delta.events if type(event) is Content)
        if self._logprobs is not None and (delta.logprobs or delta.finish is not None):  # none at all is empty lists
            logprobs = _joined(logprobs, self._logprobs.feed(delta.logprobs or ()))
        return text, logprobs, token_ids

    def end(self, delta: Delta) -> dict[str, Any]:
        """How the choice ended, as fields of its body."""
        assert delta.finish is not None
        if self._only_echo:
            return {"finish_reason": "length"}
        ended: dict[str, Any] = {"finish_reason": FINISH_REASONS[delta.finish.reason]}
        if delta.stop_reason is not None:
            ended["stop_reason"] = delta.stop_reason
        return ended

    def _echoed_logprobs(self, index: int) -> Logprobs | None:
        prompt = self.generation.choices[index].prompt_logprobs
        if self._logprobs is None or not self._echo or prompt is None:
            return None
        return self._logprobs.prompt(self.generation.spec.prompt_ids, prompt)


@dataclass(eq=False)
class _Answer:
    """What both forms of the answer are made of: the choices of all generations, and what stands around them.

    There is one generation for each of the request's prompts; ``created`` is in Unix seconds.
    """

    request: CompletionRequest
    generations: Sequence[Generation]
    prompts: Sequence[Prompt]
    model: Model
    created: int

    def __post_init__(self) -> None:
        request_id = self.generations[0].spec.request_id
        self.n = self.request.n or 1
        self.choices = [
            _Choice(self.request, generation, self.model, prompt)
            for generation, prompt in zip(self.generations, self.prompts, strict=True)
            for _ in range(self.n)
        ]
        self.head = {
            "id": f"cmpl-{request_id if len(self.generations) == 1 else request_id.rsplit('-', 1)[0]}",
            "object": "text_completion",
            "created": self.created,
            "model": self.model.name,
        }
        self.outer_head = {**self.head, "system_fingerprint": self.model.fingerprint}

    @property
    def usage(self) -> dict[str, Any]:
        """Token counts so far, of all generations together."""
        return usage_body(total_usage(self.generations, self.request))


class CompletionStream(_Answer):
    """Deltas of all generations of a request -> server-sent events. A choice's first and last name the system."""

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.request.stream_options
        self._with_usage = bool(options and options.include_usage)
        self._continuous_usage = bool(self._with_usage and options and options.continuous_usage_stats)
        self._before = b"data: " + orjson.dumps(self.head)[:-1] + b',"choices":['
        self._outer = b"data: " + orjson.dumps(self.outer_head)[:-1] + b',"choices":['
        self._after = b'],"usage":null}\n\n' if self._with_usage else b"]}\n\n"

    def start(self) -> bytes:
        """Nothing is known of a text before its first token."""
        return b""

    def feed(self, delta: Delta, position: int = 0) -> bytes:
        """The chunk of one delta of the generation at ``position``."""
        index = position * self.n + delta.index
        choice = self.choices[index]
        first = not choice.begun
        text, logprobs, token_ids = choice.take(delta)
        if not text and logprobs is None and delta.finish is None:
            return b""
        body: dict[str, Any] = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}
        if delta.finish is not None:
            body |= choice.end(delta)
        if self.request.return_token_ids:
            body["token_ids"] = list(token_ids)
            if first:
                body["prompt_token_ids"] = list(choice.generation.spec.prompt_ids)
        after = self._after
        if self._continuous_usage:
            after = b'],"usage":' + orjson.dumps(self.usage) + b"}\n\n"
        before = self._outer if first or delta.finish is not None else self._before
        return before + orjson.dumps(body) + after

    def finish(self) -> bytes:
        """After the last choice: usage where asked, and the end of the stream."""
        if not self._with_usage:
            return sse.DONE
        return self._outer + b'],"usage":' + orjson.dumps(self.usage) + b"}\n\n" + sse.DONE

    def fail(self, error: PorticoError) -> bytes:
        """The stream cannot go on: an error event, and a clean end."""
        return errors.stream_event(error) + sse.DONE

    def keep_alive(self) -> bytes:
        """What a silent stream says now and then."""
        return sse.KEEP_ALIVE


@dataclass
class _Whole:
    """The fold of one choice's deltas."""

    text: list[str] = field(default_factory=list)
    logprobs: Logprobs | None = None
    token_ids: list[int] = field(default_factory=list)
    ended: dict[str, Any] = field(default_factory=lambda: {"finish_reason": "stop"})


class CompletionBody(_Answer):
    """Deltas of all generations of a request -> the body of the whole answer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wholes = [_Whole() for _ in self.choices]

    def feed(self, delta: Delta, position: int = 0) -> None:
        """Fold one delta of the generation at ``position`` in."""
        index = position * self.n + delta.index
        choice, whole = self.choices[index], self._wholes[index]
        text, logprobs, token_ids = choice.take(delta)
        whole.text.append(text)
        whole.logprobs = _joined(whole.logprobs, logprobs)
        whole.token_ids += token_ids
        if delta.finish is not None:
            whole.ended = choice.end(delta)

    def body(self) -> bytes:
        """The response body, once every choice is finished."""
        choices = [self._choice_body(index) for index in range(len(self.choices))]
        return orjson.dumps({**self.outer_head, "choices": choices, "usage": self.usage})

    def _choice_body(self, index: int) -> dict[str, Any]:
        whole, generation = self._wholes[index], self.choices[index].generation
        body = {"index": index, "text": "".join(whole.text), "logprobs": whole.logprobs, **whole.ended}
        entries = generation.choices[index % self.n].prompt_logprobs
        if self.request.prompt_logprobs is not None and entries is not None:
            as_ids = bool(self.request.return_tokens_as_token_ids)
            body["prompt_logprobs"] = prompt_logprobs(entries, self.model.tokenizer, as_ids=as_ids)
        if self.request.return_token_ids:
            body["token_ids"] = whole.token_ids
            body["prompt_token_ids"] = list(generation.spec.prompt_ids)
        return body


def total_usage(generations: Sequence[Generation], request: CompletionRequest) -> Usage:
    """The sum over the generations of one request. What ``max_tokens`` 0 hides is not counted either."""
    usages = [generation.usage for generation in generations]
    cached = [usage.cached_tokens for usage in usages if usage.cached_tokens is not None]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=0 if request.max_tokens == 0 else sum(usage.completion_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        cached_tokens=sum(cached) if cached else None,
    )


def _joined(first: Logprobs | None, second: Logprobs | None) -> Logprobs | None:
    if first is None or second is None:
        return first if second is None else second
    return {key: first[key] + second[key] for key in first}
