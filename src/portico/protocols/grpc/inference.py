"""``portico.v1.Inference``: typed requests become the generations that OpenAI's fields become, deltas become events.

There is one meaning of a temperature or a schema in this server, and it is OpenAI's request's; here its fields only
have another spelling. Errors name OpenAI's fields, which are those of this service but for what is nested.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from portico.errors import BadRequestError
from portico.events import (
    CallArguments,
    CallEnd,
    CallStart,
    Content,
    Reasoning,
    TokenLogprob,
)
from portico.generation import Delta, Generation, Model
from portico.protocols.openai.embeddings import EmbeddingRequest
from portico.protocols.openai.schema import ChatRequest, CompletionRequest
from portico.protocols.validation import parse_fields
from portico.protos import inference_pb2 as pb
from portico.values import MOST_VALUES, values

__all__ = ["EventEncoder", "chat_request", "completion_request", "embed_response", "embedding_requests"]

_REASONS = {
    "stop": pb.Finish.STOP,
    "length": pb.Finish.LENGTH,
    "tool_calls": pb.Finish.TOOL_CALLS,
}


# -- requests ---------------------------------------------------------------------------------------------------------


def chat_request(request: pb.ChatRequest) -> ChatRequest:
    """The same conversation in OpenAI's shape. Raises ``BadRequestError``."""
    if values(request.template_kwargs) + sum(values(tool.parameters) for tool in request.tools) > MOST_VALUES:
        raise BadRequestError(
            f"The JSON texts of a request may hold {MOST_VALUES:,} values together; send less.",
            param="tools",
            code="too_many_values",
        )
    fields = _sampling(request.sampling) | _common(request)
    fields["messages"] = [_message(message) for message in request.messages]
    if request.tools:
        fields["tools"] = [_tool(tool, index) for index, tool in enumerate(request.tools)]
    if request.HasField("tool_choice"):
        fields["tool_choice"] = _tool_choice(request.tool_choice)
    if request.HasField("parallel_tool_calls"):
        fields["parallel_tool_calls"] = request.parallel_tool_calls
    if request.reasoning_effort:
        fields["reasoning_effort"] = request.reasoning_effort
    if request.template_kwargs:
        fields["chat_template_kwargs"] = _json(request.template_kwargs, "template_kwargs")
    if request.continue_final_message:
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    if "logprobs" in fields:
        fields |= {"logprobs": True, "top_logprobs": fields["logprobs"]}
    return parse_fields(ChatRequest, fields)


def completion_request(request: pb.CompleteRequest, model: Model) -> CompletionRequest:
    """The same in OpenAI's shape, with as many tokens as the context holds where none are named."""
    fields = _sampling(request.sampling) | _common(request)
    fields["prompt"] = list(request.tokens.ids) if request.WhichOneof("prompt") == "tokens" else request.text
    fields.setdefault("max_tokens", model.context_length)
    return parse_fields(CompletionRequest, fields)


def embedding_requests(request: pb.EmbedRequest, model: Model) -> list[EmbeddingRequest]:
    """One request per input, so that text and token ids may stand side by side."""
    fields: dict[str, Any] = {"model": request.model or None}
    if request.HasField("dimensions"):
        fields["dimensions"] = request.dimensions
    if not request.inputs:
        raise BadRequestError("'inputs' must not be empty.", param="inputs")
    if len(request.inputs) > model.limits.inputs:
        raise BadRequestError(f"At most {model.limits.inputs} inputs are allowed in one request.", param="inputs")
    return [
        parse_fields(
            EmbeddingRequest,
            {**fields, "input": list(one.tokens.ids) if one.WhichOneof("input") == "tokens" else one.text},
        )
        for one in request.inputs
    ]


def _common(request: pb.ChatRequest | pb.CompleteRequest) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": request.model or None}
    if request.HasField("format"):
        fields["structured_outputs"] = _format(request.format)
    if request.HasField("priority"):
        fields["priority"] = request.priority
    if request.cache_salt:
        fields["cache_salt"] = request.cache_salt
    return fields


def _sampling(sampling: pb.Sampling) -> dict[str, Any]:
    """The fields that are there."""
    fields: dict[str, Any] = {}
    for name in (
        *("max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "repetition_penalty"),
        *("frequency_penalty", "presence_penalty", "n", "logprobs"),
    ):
        if sampling.HasField(name):
            fields[name] = getattr(sampling, name)
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if sampling.stop_token_ids:
        fields["stop_token_ids"] = list(sampling.stop_token_ids)
    if sampling.include_stop:
        fields["include_stop_str_in_output"] = True
    if sampling.ignore_eos:
        fields["ignore_eos"] = True
    return fields


def _format(wanted: pb.Format) -> dict[str, Any] | None:
    kind = wanted.WhichOneof("format")
    if kind is None:
        return None
    if kind == "choice":
        return {"choice": list(wanted.choice.choices)}
    return {"json" if kind == "json_schema" else kind: getattr(wanted, kind)}


def _message(message: pb.Message) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.parts:
        found["content"] = [
            {"type": "image_url", "image_url": {"url": part.image_url}}
            if part.WhichOneof("part") == "image_url"
            else {"type": "text", "text": part.text}
            for part in message.parts
        ]
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.reasoning:
        found["reasoning"] = message.reasoning
    if message.tool_call_id:
        found["tool_call_id"] = message.tool_call_id
    if message.name:
        found["name"] = message.name
    return found


def _tool(tool: pb.Tool, index: int) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = _json(tool.parameters, f"tools[{index}].parameters")
    if tool.HasField("strict"):
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: pb.ToolChoice) -> str | dict[str, Any]:
    if choice.WhichOneof("choice") == "name":
        return {"type": "function", "function": {"name": choice.name}}
    return {pb.ToolChoice.NONE: "none", pb.ToolChoice.REQUIRED: "required"}.get(choice.mode, "auto")


def _json(text: str, param: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequestError(f"'{param}' is not valid JSON.", param=param) from None
    if not isinstance(value, dict):
        raise BadRequestError(f"'{param}' must be a JSON object.", param=param)
    return value


# -- answers ----------------------------------------------------------------------------------------------------------


class EventEncoder:
    """Deltas of one generation -> event messages."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def feed(self, delta: Delta) -> list[pb.Event]:
        """The messages of one delta; its logprobs ride on the first."""
        messages = [_event(delta.index, event) for event in delta.events]
        if delta.finish is not None:
            messages.append(pb.Event(choice=delta.index, finish=self._finish(delta)))
        if delta.logprobs:
            if not messages:
                messages.append(pb.Event(choice=delta.index))
            messages[0].logprobs.extend(_logprob(one) for one in delta.logprobs)
        return messages

    def joined(self, messages: Sequence[pb.Event]) -> list[pb.Event]:
        """The same in fewer messages: neighbours of one choice and kind become one, for a client that lags."""
        found: list[pb.Event] = []
        last: dict[int, pb.Event] = {}
        for message in messages:
            before = last.get(message.choice)
            if before is None or not _appended(before, message):
                found.append(message)
                last[message.choice] = message
        return found

    def aborted(self) -> list[pb.Event]:
        """Nothing: this service has no call that stops another."""
        return []

    def _finish(self, delta: Delta) -> pb.Finish:
        assert delta.finish is not None
        choice = self._generation.choices[delta.index]
        usage = pb.Usage(
            prompt_tokens=len(self._generation.spec.prompt_ids),
            completion_tokens=choice.completion_tokens,
            reasoning_tokens=choice.reasoning_tokens,
        )
        if choice.cached_tokens is not None:
            usage.cached_tokens = choice.cached_tokens
        finish = pb.Finish(reason=_REASONS.get(delta.finish.reason, pb.Finish.UNKNOWN), usage=usage)
        if isinstance(delta.stop_reason, int):
            finish.stop_token_id = delta.stop_reason
        elif delta.stop_reason is not None:
            finish.stop = delta.stop_reason
        return finish


def _appended(before: pb.Event, message: pb.Event) -> bool:
    """Append ``message`` to ``before`` if both are pieces of one text."""
    kind = message.WhichOneof("event")
    if kind != before.WhichOneof("event"):
        return False
    match kind:
        case "content":
            before.content += message.content
        case "reasoning":
            before.reasoning += message.reasoning
        case "call_arguments" if before.call_arguments.index == message.call_arguments.index:
            before.call_arguments.json_fragment += message.call_arguments.json_fragment
        case _:
            return False
    before.logprobs.extend(message.logprobs)
    return True


def _event(index: int, event: Any) -> pb.Event:
    match event:
        case Content(text):
            return pb.Event(choice=index, content=text)
        case Reasoning(text):
            return pb.Event(choice=index, reasoning=text)
        case CallStart(call, call_id, name):
            return pb.Event(choice=index, call_start=pb.CallStart(index=call, id=call_id, name=name))
        case CallArguments(call, fragment):
            return pb.Event(choice=index, call_arguments=pb.CallArguments(index=call, json_fragment=fragment))
        case CallEnd(call):
            return pb.Event(choice=index, call_end=pb.CallEnd(index=call))
    raise TypeError(f"no message for {type(event).__name__}")


def _logprob(one: TokenLogprob) -> pb.TokenLogprob:
    top = [pb.TokenLogprob.Alternative(token_id=token, logprob=logprob) for token, logprob in one.top]
    return pb.TokenLogprob(token_id=one.token_id, logprob=one.logprob, top=top)


def embed_response(vectors: npt.NDArray[np.float32], tokens: Sequence[int]) -> pb.EmbedResponse:
    """The answer for ``vectors`` of shape (inputs, size)."""
    return pb.EmbedResponse(
        vectors=[
            pb.EmbedResponse.Vector(values=vector.tolist(), tokens=count)
            for vector, count in zip(vectors, tokens, strict=True)
        ]
    )
