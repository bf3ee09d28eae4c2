"""``POST /infill`` as llama.cpp's server has it: what editors' completion plug-ins send, and how they are answered.

The request becomes a completion with a suffix; the answer is what that completion says, in llama.cpp's words. A stream
is one event per piece, ``stop`` false, then one with ``stop`` true and the facts; there is no ``[DONE]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import Field

from portico.errors import PorticoError
from portico.events import Content
from portico.generation import Delta, Generation, Model
from portico.protocols import sse
from portico.protocols.bounds import Items
from portico.protocols.openai import errors
from portico.protocols.openai.schema import CompletionRequest, Int64, MaxTokens, Short
from portico.protocols.validation import RequestModel

__all__ = ["InfillBody", "InfillRequest", "InfillStream", "completion_request"]


class ExtraFile(RequestModel):
    """Another file that may help."""

    filename: str | None = None
    text: str


class InfillRequest(RequestModel):
    """POST /infill. ``prompt`` is what already stands in the gap."""

    model: str | None = None
    input_prefix: str
    input_suffix: str
    input_extra: Items[ExtraFile] | None = None
    prompt: str | None = None
    n_predict: MaxTokens | None = None  # 0: read the prompt into the cache
    stream: bool | None = None
    stop: Items[Short] | None = None
    seed: Int64 | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_k: int | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    response_fields: Items[str] | None = None

    # accepted, without an effect here
    cache_prompt: bool | None = None  # every prefix is cached
    id_slot: int | None = None
    n_indent: int | None = None
    samplers: Items[str] | str | None = None
    t_max_prompt_ms: float | None = None
    t_max_predict_ms: float | None = None

    @property
    def files(self) -> list[tuple[str, str]]:
        """Name and text of the other files."""
        return [(extra.filename or "file", extra.text) for extra in self.input_extra or ()]


def completion_request(request: InfillRequest, prompt_ids: Sequence[int]) -> CompletionRequest:
    """The completion that fills the gap, whose prompt is made already."""
    tokens = request.n_predict
    return CompletionRequest(
        prompt=list(prompt_ids),
        model=request.model,
        max_tokens=-1 if tokens is None else max(tokens, 1) if tokens != -1 else -1,
        stop=request.stop,
        seed=request.seed,
        temperature=request.temperature,
        top_k=None if request.top_k is None else max(request.top_k, -1),
        top_p=request.top_p,
        min_p=request.min_p,
        repetition_penalty=request.repeat_penalty,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
    )


class _Infill:
    """What both forms of the answer say of it."""

    def __init__(self, request: InfillRequest, generation: Generation, model: Model) -> None:
        self._request = request
        self._generation = generation
        self._model = model
        self._last: Delta | None = None

    def text(self, delta: Delta) -> str:
        """What one delta adds to the gap; nothing where only the cache was to be filled."""
        if delta.finish is not None:
            self._last = delta
        if self._request.n_predict == 0:
            return ""
        return "".join(event.text for event in delta.events if type(event) is Content)

    def facts(self, content: str) -> dict[str, Any]:
        """The whole answer, or the end of a stream."""
        usage, last = self._generation.usage, self._last
        word = last.stop_reason if last is not None and isinstance(last.stop_reason, str) else ""
        cut = last is not None and last.finish is not None and last.finish.reason == "length"
        body = {
            "index": 0,
            "content": content,
            "tokens": [],
            "model": self._model.name,
            "stop": True,
            "stop_type": "word" if word else "limit" if cut else "eos",
            "stopping_word": word,
            "tokens_predicted": 0 if self._request.n_predict == 0 else usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "tokens_cached": usage.cached_tokens or 0,
            "truncated": False,
        }
        wanted = self._request.response_fields
        return body if not wanted else {name: body[name] for name in wanted if name in body}


class InfillStream(_Infill):
    """Deltas -> events."""

    def start(self) -> bytes:
        """Nothing is known before the first token."""
        return b""

    def feed(self, delta: Delta, position: int = 0) -> bytes:
        """The event of one delta."""
        text = self.text(delta)
        return sse.event(orjson.dumps({"index": 0, "content": text, "tokens": [], "stop": False})) if text else b""

    def finish(self) -> bytes:
        """How it ended."""
        return sse.event(orjson.dumps(self.facts("")))

    def fail(self, error: PorticoError) -> bytes:
        """The stream cannot go on."""
        return errors.stream_event(error)

    def keep_alive(self) -> bytes:
        """What a silent stream says now and then."""
        return sse.KEEP_ALIVE


class InfillBody(_Infill):
    """Deltas -> the body of the whole answer."""

    def __init__(self, request: InfillRequest, generation: Generation, model: Model) -> None:
        super().__init__(request, generation, model)
        self._texts: list[str] = []

    def feed(self, delta: Delta, position: int = 0) -> None:
        """Fold one delta in."""
        self._texts.append(self.text(delta))

    def body(self) -> bytes:
        """The response body."""
        return orjson.dumps(self.facts("".join(self._texts)))
