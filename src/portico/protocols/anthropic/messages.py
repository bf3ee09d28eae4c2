"""Messages: a request becomes a generation; its deltas become events, or one body.

The stream is an automaton: ``message_start`` with the prompt's tokens at admission, a ``ping``, the blocks in their
order (``blocks``), one ``message_delta`` with why it stopped and what it cost, ``message_stop``. When it fails, an
``error`` event ends it. The whole body comes from the same automaton with another writer behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from portico.errors import BadRequestError, ContextLengthError, NotSupportedError, PorticoError
from portico.events import Content, Finish, SamplingParams, ThoughtBudget
from portico.generation import Delta, Generation, GenerationSpec, Model, Promise, Usage, promised, thought_budget
from portico.prompting import Prompt
from portico.protocols import sse
from portico.protocols.anthropic import errors
from portico.protocols.anthropic.blocks import Blocks, Display
from portico.protocols.anthropic.context import is_known
from portico.protocols.anthropic.conversation import read_conversation
from portico.protocols.anthropic.places import Origin
from portico.protocols.anthropic.schema import CountTokensRequest, MessagesRequest
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.anthropic.tools import neutral_choice, neutral_tools
from portico.protocols.sampling import nucleus, temperature

__all__ = ["PING", "Asked", "MessageBody", "MessageStream", "generation", "read_request", "token_count"]

PING = sse.event(b'{"type":"ping"}', "ping")

Edits: TypeAlias = Sequence[dict[str, Any]]  # what context management has cleared, as clients are told

INTERLEAVED = "interleaved-thinking"  # with this beta a budget counts for several turns, so it may be over max_tokens


@dataclass(frozen=True)
class Asked:
    """A request in neutral words: what the prompter takes, and what beside the prompt decides the answer.

    ``left_out`` names what of the request did not reach the model; ``origins`` and ``tool_places`` say where in the
    request its messages and tools come from.
    """

    prompt_arguments: dict[str, Any]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel: bool
    left_out: list[str]
    origins: list[Origin]
    tool_places: list[int]


def read_request(request: CountTokensRequest, model: Model, signer: Signer) -> Asked:
    """Everything in ``request`` that makes its prompt. Raises ``BadRequestError`` naming the field at fault."""
    if request.tools is not None and len(request.tools) > model.limits.tools:
        raise BadRequestError(f"At most {model.limits.tools} tools are allowed.", param="tools")
    conversation = read_conversation(request.messages, request.system, signer, model.prompter.modalities)
    shown = neutral_tools(request.tools, conversation.referenced_tools)
    tools = shown.tools
    choice = request.tool_choice
    thinking = request.thinking
    arguments = {
        "messages": conversation.messages,
        "tools": tools or None,
        "continue_final_message": conversation.prefilled,
        "reasoning_effort": request.effort,
        "thinking": _THINKS.get(thinking.type) if thinking else None,
        "thinking_budget": thinking.budget_tokens if thinking else None,
        "response_format": _response_format(request),
    }
    return Asked(
        arguments,
        tools,
        neutral_choice(choice, tools),
        parallel=not (choice and choice.disable_parallel_tool_use),
        left_out=[*conversation.left_out, *shown.left_out, *_not_carried_out(request)],
        origins=conversation.origins,
        tool_places=shown.places,
    )


def _not_carried_out(request: CountTokensRequest) -> Iterator[str]:
    """What of the request this server does not do, for people."""
    if request.mcp_servers:
        yield "mcp_servers (this server calls none)"
    for index, edit in enumerate(request.edits):
        if not is_known(edit):
            yield f"context_management.edits[{index}] ({edit.type[:40]})"


_THINKS = {"enabled": True, "adaptive": True, "disabled": False, "between_tools": False}


def generation(
    request: MessagesRequest, asked: Asked, prompt: Prompt, model: Model, request_id: str, betas: Collection[str] = ()
) -> Generation:
    """Decide everything about the request before admission. Raises ``BadRequestError`` for what cannot be served."""
    _check_budget(request, betas)
    stops = request.stop_sequences or []
    if len(stops) > model.limits.stop_strings:
        raise BadRequestError(
            f"At most {model.limits.stop_strings} stop sequences are allowed.", param="stop_sequences"
        )
    if not all(stops):
        raise BadRequestError("A stop sequence must not be empty.", param="stop_sequences")
    room = _room(prompt, model)
    constraint, tool_parser, left_out = _promised(request, asked, prompt, model)
    thought = _thought(request, asked, prompt, model, tool_parser)
    spec = GenerationSpec(
        request_id=request_id,
        prompt_ids=prompt.token_ids,
        prompt_tail=prompt.tail,
        sampling=_sampling(request, min(request.max_tokens, room), thought),
        tool_parser=tool_parser,
        reasoning_parser=model.reasoning_parser,
        tools=asked.tools,
        tool_choice=asked.tool_choice,
        parallel=asked.parallel,
        stop=stops,
        constraint=constraint,
        left_out=left_out,
        lora=model.lora,
    )
    return Generation(spec, model.tokenizer)


def _check_budget(request: MessagesRequest, betas: Collection[str]) -> None:
    budget = request.thinking.budget_tokens if request.thinking else None
    if budget is None or budget < request.max_tokens or request.max_tokens == 0:
        return
    if not any(beta.startswith(INTERLEAVED) for beta in betas):
        raise BadRequestError(
            "'max_tokens' must be greater than 'thinking.budget_tokens': thinking counts towards it.",
            param="max_tokens",
        )


def _room(prompt: Prompt, model: Model) -> int:
    """How many tokens the context still holds. The words of the refusal are those that coding agents look for."""
    size = len(prompt.token_ids)
    if size >= model.context_length:
        raise ContextLengthError(
            f"prompt is too long: {size} tokens > {model.context_length - 1} maximum", param="messages"
        )
    return model.context_length - size


def _promised(request: MessagesRequest, asked: Asked, prompt: Prompt, model: Model) -> Promise:
    """The constraint that keeps the request's promises, and the parser for its calls."""
    return promised(
        model,
        prompt.tail,
        tools=asked.tools,
        tool_choice=asked.tool_choice,
        parallel_tool_calls=None if asked.parallel else False,
        response_format=_response_format(request),
    )


def _response_format(request: CountTokensRequest) -> dict[str, Any] | None:
    """The schema of the answer, as OpenAI has it."""
    schema = request.answer_schema
    return None if schema is None else {"type": "json_schema", "json_schema": {"schema": schema, "strict": True}}


def _thought(
    request: MessagesRequest, asked: Asked, prompt: Prompt, model: Model, tool_parser: str | None
) -> ThoughtBudget | None:
    """What ends a thought when ``budget_tokens`` are used up; where nothing can, the budget stays a wish."""
    budget = request.thinking.budget_tokens if request.thinking else None
    calls_parser = tool_parser if asked.tools and asked.tool_choice != "none" else None
    try:
        return thought_budget(model, budget, prompt.tail, calls_parser)
    except NotSupportedError:
        return None


def _sampling(request: MessagesRequest, max_tokens: int, thought: ThoughtBudget | None) -> SamplingParams:
    top_p, top_k = nucleus(request.top_p, request.top_k)
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature(request.temperature),
        top_p=top_p,
        top_k=top_k,
        thought=thought,
    )


def token_count(prompt: Prompt, edits: Edits | None = None) -> dict[str, Any]:
    """The answer of count_tokens: the prompt as the engine would get it."""
    count = len(prompt.token_ids)
    if edits is None:
        return {"input_tokens": count}
    original = count + sum(edit["cleared_input_tokens"] for edit in edits)
    return {"input_tokens": count, "context_management": {"original_input_tokens": original}}


# -- what stream and body share ---------------------------------------------------------------------------------------


def _usage(usage: Usage) -> dict[str, Any]:
    """Token counts as Anthropic has them: input is what was not found in the cache."""
    cached = usage.cached_tokens or 0
    return {
        "input_tokens": usage.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _message(id: str, model: Model, usage: Usage) -> dict[str, Any]:
    """A message that has said nothing yet."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model.name,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**_usage(usage), "service_tier": "standard"},
    }


def _managed(edits: Edits | None) -> dict[str, Any]:
    """What was cleared, where the request asked for it."""
    return {} if edits is None else {"context_management": {"applied_edits": edits}}


def _display(request: MessagesRequest, model: Model) -> str:
    """Thoughts are for who asks for them; a model that thinks all the same is not heard."""
    thinking = request.thinking
    if thinking is None:
        return Display.SHOWN if model.thinking_by_default else Display.HIDDEN
    if thinking.type == "disabled":
        return Display.HIDDEN
    return Display.OMITTED if thinking.display == "omitted" else Display.SHOWN


class _Ending:
    """Why the answer stopped."""

    def __init__(self, request: MessagesRequest, generation: Generation) -> None:
        self._cut_by_context = generation.spec.sampling.max_tokens < request.max_tokens
        self.finish: Finish | None = None
        self.stop: str | int | None = None

    def feed(self, delta: Delta) -> None:
        """Look at one delta."""
        if delta.finish is not None:
            self.finish, self.stop = delta.finish, delta.stop_reason

    def told(self, calls: int) -> dict[str, str | None]:
        """``stop_reason`` and ``stop_sequence`` after ``calls`` tool calls."""
        if isinstance(self.stop, str):
            return {"stop_reason": "stop_sequence", "stop_sequence": self.stop}
        if self.finish is not None and self.finish.reason == "length":
            reason = "model_context_window_exceeded" if self._cut_by_context else "max_tokens"
        else:
            reason = "tool_use" if calls else "end_turn"
        return {"stop_reason": reason, "stop_sequence": None}


# -- streaming --------------------------------------------------------------------------------------------------------


class MessageStream:
    """Deltas of one generation -> server-sent events."""

    def __init__(
        self,
        request: MessagesRequest,
        generation: Generation,
        model: Model,
        signer: Signer,
        *,
        message_id: str,
        request_id: str,
        edits: Edits | None = None,
    ) -> None:
        self._generation = generation
        self._edits = edits
        self._request_id = request_id
        self._message = _message(message_id, model, generation.usage)
        self._ending = _Ending(request, generation)
        self._frames = _Frames()
        self._blocks = Blocks(self._frames, signer, _display(request, model))

    def start(self) -> bytes:
        """``message_start`` and a ping; sent at admission, long before the first token."""
        return _event("message_start", message=self._message) + PING

    def feed(self, delta: Delta, position: int = 0) -> bytes:
        """The events of one delta."""
        events = delta.events
        self._ending.feed(delta)
        if len(events) == 1 and type(events[0]) is Content and self._blocks.open == "text":
            return self._frames.text(events[0].text)  # the commonest case
        self._blocks.feed(events)
        return self._frames.take()

    def finish(self) -> bytes:
        """The end of the last block, why it stopped and what it cost, and the end."""
        self._blocks.close()
        ending = self._ending.told(self._blocks.calls)
        return b"".join(
            (
                self._frames.take(),
                _event("message_delta", delta=ending, usage=_usage(self._generation.usage), **_managed(self._edits)),
                _event("message_stop"),
            )
        )

    def fail(self, error: PorticoError) -> bytes:
        """The stream cannot go on: an error event, and nothing after it."""
        return errors.stream_event(error, self._request_id)

    def keep_alive(self) -> bytes:
        """What a silent stream says now and then; Anthropic's clients know pings, not comments."""
        return PING


def _event(kind: str, **fields: Any) -> bytes:
    return sse.event(orjson.dumps({"type": kind, **fields}), kind)


class _Frames:
    """Writes blocks as events. What is the same in every delta of a block is encoded once."""

    def __init__(self) -> None:
        self._index = -1
        self._frames: list[bytes] = []
        self._before_text = b""

    def start(self, block: dict[str, Any]) -> None:
        self._index += 1
        self._frames.append(_event("content_block_start", index=self._index, content_block=block))
        head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":'
        self._head = head % self._index
        self._before_text = self._head + b'"text_delta","text":'

    def delta(self, kind: str, key: str, text: str) -> None:
        self._frames += (self._head, b'"%b","%b":' % (kind.encode(), key.encode()), orjson.dumps(text), b"}}\n\n")

    def stop(self, tool_input: str | None) -> None:
        self._frames.append(_event("content_block_stop", index=self._index))

    def text(self, text: str) -> bytes:
        """One text delta of the open block."""
        return self._before_text + orjson.dumps(text) + b"}}\n\n" if text else b""

    def take(self) -> bytes:
        """What has been written since the last time."""
        frames = b"".join(self._frames)
        self._frames.clear()
        return frames


# -- the whole body ---------------------------------------------------------------------------------------------------


class MessageBody:
    """Deltas of one generation -> the body of the whole answer."""

    def __init__(
        self,
        request: MessagesRequest,
        generation: Generation,
        model: Model,
        signer: Signer,
        *,
        message_id: str,
        edits: Edits | None = None,
    ) -> None:
        self._generation = generation
        self._edits = edits
        self._model = model
        self._message_id = message_id
        self._ending = _Ending(request, generation)
        self._fold = _Fold()
        self._blocks = Blocks(self._fold, signer, _display(request, model))

    def feed(self, delta: Delta, position: int = 0) -> None:
        """Fold one delta in."""
        self._ending.feed(delta)
        self._blocks.feed(delta.events)

    def body(self) -> bytes:
        """The response body, once the answer is finished."""
        self._blocks.close()
        message = _message(self._message_id, self._model, self._generation.usage)
        message["content"] = self._fold.content
        message.update(self._ending.told(self._blocks.calls), **_managed(self._edits))
        return orjson.dumps(message)


class _Fold:
    """Writes blocks as values."""

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []
        self._texts: dict[str, list[str]] = {}

    def start(self, block: dict[str, Any]) -> None:
        self.content.append(dict(block))
        self._texts = {}

    def delta(self, kind: str, key: str, text: str) -> None:
        self._texts.setdefault(key, []).append(text)

    def stop(self, tool_input: str | None) -> None:
        block = self.content[-1]
        if tool_input is not None:
            block["input"] = orjson.Fragment(tool_input)  # the model's own text: no number or order of keys is lost
            return
        for key, pieces in self._texts.items():
            block[key] = "".join(pieces)
