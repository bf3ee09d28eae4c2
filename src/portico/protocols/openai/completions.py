"""Completions (the older, text-in text-out API): a request becomes one generation per prompt.

Choice ``index`` is ``prompt position * n + choice``. The text is the model's own: no reasoning or tool parsing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import orjson
from msgspec.structs import replace

from portico.decoding import CompletionLogprobs, prompt_logprobs
from portico.errors import BadRequestError, NotSupportedError, PorticoError
from portico.events import Content, TokenLogprob
from portico.generation import Delta, Generation, GenerationSpec, Model, Usage, promised
from portico.prompting import Prompt
from portico.protocols import sse
from portico.protocols.openai import errors
from portico.protocols.openai.sampling import max_new_tokens, sampling_params, stop_strings
from portico.protocols.openai.schema import CompletionRequest
from portico.protocols.openai.usage import usage_body

__all__ = ["CompletionBody", "CompletionStream", "generations", "prompts"]

DEFAULT_MAX_TOKENS = 16  # OpenAI's
FINISH_REASONS = {"stop": "stop", "length": "length", "tool_calls": "stop", "abort": "stop", "error": "stop"}


def prompts(request: CompletionRequest, model: Model) -> list[str | list[int]]:
    """The request's prompts, each text or token ids, checked. Raises ``BadRequestError``."""
    if request.suffix:
        raise NotSupportedError("'suffix' is not supported: this model has no fill-in-the-middle form.", param="suffix")
    if request.best_of is not None and request.best_of > (request.n or 1):
        raise NotSupportedError("'best_of' is not supported; use 'n'.", param="best_of")
    prompt = request.prompt
    found: list[str | list[int]]
    if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
        found = [prompt]
    else:
        found = cast(list[str | list[int]], prompt)
    if not found or any(not one for one in found):
        raise BadRequestError("'prompt' must not be empty.", param="prompt")
    if len(found) > model.limits.prompts:
        raise BadRequestError(f"At most {model.limits.prompts} prompts are allowed in one request.", param="prompt")
    for one in found:
        if not isinstance(one, str) and any(token >= model.vocab_size for token in one):
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
    constraint, _ = promised(
        model,
        "",
        response_format=request.response_format,
        structured_outputs=request.structured_outputs,
        plain=True,
    )
    result = []
    for position, prompt in enumerate(prompts):
        ids = prompt.token_ids
        wanted = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
        max_tokens = max_new_tokens(len(ids), wanted, model, "prompt")
        sampling = sampling_params(request, model, max_tokens=max(1, max_tokens), logprobs=request.logprobs)
        if request.echo and request.logprobs is not None and sampling.prompt_logprobs is None:
            if "prompt_logprobs" not in model.capabilities:
                raise NotSupportedError("This engine has no logprobs for prompt tokens ('echo' with 'logprobs').")
            sampling = replace(sampling, prompt_logprobs=request.logprobs)
        spec = GenerationSpec(
            request_id=request_id if len(prompts) == 1 else f"{request_id}-{position}",
            prompt_ids=ids,
            sampling=sampling,
            n=request.n or 1,
            stop=stop_strings(request, model),
            include_stop=bool(request.include_stop_str_in_output),
            skip_special_tokens=request.skip_special_tokens is not False,
            constraint=constraint,
            priority=request.priority or 0,
            cache_salt=request.cache_salt,
            lora=model.lora,
        )
        result.append(Generation(spec, model.tokenizer))
    return result


class _Choice:
    """What both forms of the answer need to know of one choice while it grows."""

    def __init__(self, request: CompletionRequest, generation: Generation, model: Model, prompt: Prompt) -> None:
        self.only_echo = request.max_tokens == 0
        self.echo = prompt.text if request.echo else ""
        self.generation = generation
        self.logprobs: CompletionLogprobs | None = None
        if request.logprobs is not None:
            self.logprobs = CompletionLogprobs(
                model.tokenizer,
                as_ids=bool(request.return_tokens_as_token_ids),
                skip_special_tokens=generation.spec.skip_special_tokens,
                prompt_ids=() if request.echo else generation.spec.prompt_ids,
            )
        self.text: list[str] = []
        self.token_ids: list[int] = []
        self.ended: dict[str, Any] = {"finish_reason": "stop"}

    def echo_logprobs(self, index: int) -> dict[str, Any] | None:
        """The prompt's logprobs, which precede those of the answer when the prompt is echoed."""
        prompt = self.generation.choices[index].prompt_logprobs
        if self.logprobs is None or not self.echo or prompt is None:
            return None
        return self.logprobs.prompt(self.generation.spec.prompt_ids, prompt)

    def take(self, delta: Delta) -> tuple[str, dict[str, Any] | None, Sequence[int]]:
        """Text, logprobs and token ids of one delta. An engine gives at least one token; ``max_tokens`` 0 hides it."""
        if self.only_echo:
            return "", None, ()
        text = "".join(event.text for event in delta.events if type(event) is Content)
        logprobs: Sequence[TokenLogprob] = delta.logprobs or ()
        lists = self.logprobs.feed(logprobs) if self.logprobs is not None and logprobs else None
        return text, lists, delta.token_ids

    def end(self, delta: Delta) -> dict[str, Any]:
        """How the choice ended, as fields of its body."""
        assert delta.finish is not None
        if self.only_echo:
            return {"finish_reason": "length"}
        ended: dict[str, Any] = {"finish_reason": FINISH_REASONS[delta.finish.reason]}
        if delta.stop_reason is not None:
            ended["stop_reason"] = delta.stop_reason
        return ended


class CompletionStream:
    """Deltas of all generations of a request -> server-sent events."""

    def __init__(
        self,
        request: CompletionRequest,
        generations: Sequence[Generation],
        prompts: Sequence[Prompt],
        model: Model,
        created: int,
    ) -> None:
        self._request = request
        self._generations = generations
        self._n = request.n or 1
        self._choices = [
            _Choice(request, generation, model, prompt)
            for generation, prompt in zip(generations, prompts, strict=True)
            for _ in range(self._n)
        ]
        self._started = [False] * len(self._choices)
        options = request.stream_options
        self._with_usage = bool(options and options.include_usage)
        self._continuous_usage = bool(self._with_usage and options and options.continuous_usage_stats)
        base = generations[0].spec.request_id
        head = {
            "id": f"cmpl-{base if len(generations) == 1 else base.rsplit('-', 1)[0]}",
            "object": "text_completion",
            "created": created,
            "model": model.name,
            "system_fingerprint": model.fingerprint,
        }
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self._with_usage else b"]}\n\n"

    def start(self) -> bytes:
        """Nothing is known of a text before its first token."""
        return b""

    def feed(self, delta: Delta, position: int = 0) -> bytes:
        """The chunk of one delta of the generation at ``position``."""
        index = position * self._n + delta.index
        choice = self._choices[index]
        text, logprobs, token_ids = choice.take(delta)
        first = not self._started[index]
        if first:
            self._started[index] = True
            echoed = choice.echo_logprobs(delta.index)
            text = choice.echo + text
            logprobs = _joined(echoed, logprobs)
        if not text and logprobs is None and delta.finish is None:
            return b""
        body: dict[str, Any] = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}
        if delta.finish is not None:
            body |= choice.end(delta)
        if self._request.return_token_ids:
            body["token_ids"] = list(token_ids)
            if first:
                body["prompt_token_ids"] = list(choice.generation.spec.prompt_ids)
        tail = self._tail
        if self._continuous_usage:
            tail = b'],"usage":' + orjson.dumps(self._usage()) + b"}\n\n"
        return self._head + orjson.dumps(body) + tail

    def finish(self) -> bytes:
        """After the last choice: usage where asked, and the end of the stream."""
        if not self._with_usage:
            return sse.DONE
        return self._head + b'],"usage":' + orjson.dumps(self._usage()) + b"}\n\n" + sse.DONE

    def fail(self, error: PorticoError) -> bytes:
        """The stream cannot go on: an error event, and a clean end."""
        return errors.stream_event(error) + sse.DONE

    def keep_alive(self) -> bytes:
        """What a silent stream says now and then."""
        return sse.KEEP_ALIVE

    def _usage(self) -> dict[str, Any]:
        return usage_body(total_usage(self._generations, self._request))


class CompletionBody:
    """Deltas of all generations of a request -> the body of the whole answer."""

    def __init__(
        self,
        request: CompletionRequest,
        generations: Sequence[Generation],
        prompts: Sequence[Prompt],
        model: Model,
        created: int,
    ) -> None:
        self._request = request
        self._generations = generations
        self._model = model
        self._created = created
        self._n = request.n or 1
        self._choices = [
            _Choice(request, generation, model, prompt)
            for generation, prompt in zip(generations, prompts, strict=True)
            for _ in range(self._n)
        ]
        self._logprobs: list[dict[str, Any] | None] = [None] * len(self._choices)

    def feed(self, delta: Delta, position: int = 0) -> None:
        """Fold one delta of the generation at ``position`` in."""
        index = position * self._n + delta.index
        choice = self._choices[index]
        if not choice.text:
            choice.text.append(choice.echo)
            self._logprobs[index] = choice.echo_logprobs(delta.index)
        text, logprobs, token_ids = choice.take(delta)
        choice.text.append(text)
        choice.token_ids += token_ids
        self._logprobs[index] = _joined(self._logprobs[index], logprobs)
        if delta.finish is not None:
            choice.ended = choice.end(delta)

    def body(self) -> bytes:
        """The response body, once every choice is finished."""
        base = self._generations[0].spec.request_id
        choices = []
        for index, choice in enumerate(self._choices):
            body: dict[str, Any] = {
                "index": index,
                "text": "".join(choice.text),
                "logprobs": self._logprobs[index],
                **choice.ended,
            }
            entries = choice.generation.choices[index % self._n].prompt_logprobs
            if self._request.prompt_logprobs is not None and entries is not None:
                as_ids = bool(self._request.return_tokens_as_token_ids)
                body["prompt_logprobs"] = prompt_logprobs(entries, self._model.tokenizer, as_ids=as_ids)
            if self._request.return_token_ids:
                body["token_ids"] = choice.token_ids
                body["prompt_token_ids"] = list(choice.generation.spec.prompt_ids)
            choices.append(body)
        return orjson.dumps(
            {
                "id": f"cmpl-{base if len(self._generations) == 1 else base.rsplit('-', 1)[0]}",
                "object": "text_completion",
                "created": self._created,
                "model": self._model.name,
                "system_fingerprint": self._model.fingerprint,
                "choices": choices,
                "usage": usage_body(total_usage(self._generations, self._request)),
            }
        )


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


def _joined(first: dict[str, Any] | None, second: dict[str, Any] | None) -> dict[str, Any] | None:
    if first is None or second is None:
        return first if second is None else second
    return {key: first[key] + second[key] for key in first}
