"""Requests in neutral words: what makes the prompt, and what beside it decides the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from portico.errors import BadRequestError, NotSupportedError
from portico.events import SamplingParams
from portico.generation import Generation, GenerationSpec, Model, promised
from portico.prompting import Prompt
from portico.protocols.openai.custom import as_function_choice, as_functions
from portico.protocols.openai.sampling import max_new_tokens
from portico.protocols.places import Places
from portico.protocols.responses.conversation import Conversation, read_conversation
from portico.protocols.responses.items import Item
from portico.protocols.responses.schema import InputTokensRequest, PromptFields, ResponsesRequest
from portico.protocols.responses.sealing import Sealer
from portico.protocols.responses.tools import Offered, offered_tools
from portico.protocols.sampling import defaulted, nucleus, temperature

__all__ = ["Asked", "cut", "generation", "read_request"]


@dataclass(frozen=True)
class Asked:
    """A request as the boxes below know it. ``items`` are all items of the conversation, oldest first."""

    request: InputTokensRequest
    items: Sequence[Item]
    conversation: Conversation
    offered: Offered
    response_format: dict[str, Any] | None

    @property
    def left_out(self) -> list[str]:
        """What of the request does not reach the model, for people."""
        return [*self.conversation.left_out, *self.offered.left_out]

    @property
    def places(self) -> Places:
        """Where the client finds what an error names."""
        return Places(
            self.conversation.origins,
            self.offered.places,
            root="input",
            arguments="arguments",
            flat=True,
            answer="text.format",
        )

    @property
    def prompt_arguments(self) -> dict[str, Any]:
        """What the prompter takes."""
        reasoning = self.request.reasoning
        kwargs = self.request.chat_template_kwargs if isinstance(self.request, ResponsesRequest) else None
        return {
            "messages": self.conversation.messages,
            "tools": as_functions(self.offered.tools) or None,
            "reasoning_effort": reasoning.effort if reasoning else None,
            "response_format": self.response_format,
            "chat_template_kwargs": kwargs,
        }


def read_request(
    request: PromptFields,
    items: Sequence[Item],
    before: int,
    model: Model,
    sealer: Sealer,
    listed: Mapping[str, Sequence[dict[str, Any]]] | None = None,
) -> Asked:
    """Everything in ``request`` that makes its prompt. ``items`` are its own behind the ``before`` of its past,
    ``listed`` the tools of MCP servers by their labels.

    Raises ``BadRequestError`` naming the field at fault.
    """
    fields = request if isinstance(request, InputTokensRequest) else InputTokensRequest()
    if fields.tools is not None and len(fields.tools) > model.limits.tools:
        raise BadRequestError(f"At most {model.limits.tools} tools are allowed.", param="tools")
    context = fields.reasoning.context if fields.reasoning else None
    if fields.input == [] and not items:  # some clients ask so whether anybody is there
        items = [{"role": "user", "content": ""}]
    conversation = read_conversation(items, sealer, instructions=request.instructions, before=before, thoughts=context)
    if not conversation.messages:
        raise BadRequestError("input: there is nothing to answer.", param="input")
    offered = offered_tools(fields.tools, fields.tool_choice, conversation.tools, listed)
    return Asked(fields, items, conversation, offered, _response_format(fields))


def _response_format(request: InputTokensRequest) -> dict[str, Any] | None:
    """``text.format`` as chat completions have it."""
    given = request.text.format if request.text else None
    if given is None:
        return None
    kind = given.get("type")
    if kind in ("text", "json_object"):
        return {"type": kind}
    if kind != "json_schema":
        raise BadRequestError(
            "text.format.type must be 'text', 'json_object' or 'json_schema'.", param="text.format.type"
        )
    if not isinstance(given.get("schema"), dict):
        raise BadRequestError("text.format.schema must be a JSON schema (an object).", param="text.format.schema")
    keys = ("name", "schema", "strict", "description")
    return {"type": "json_schema", "json_schema": {"name": "answer", **{k: given[k] for k in keys if k in given}}}


def generation(request: ResponsesRequest, asked: Asked, prompt: Prompt, model: Model, request_id: str) -> Generation:
    """Decide everything about the request before admission. Raises ``BadRequestError`` for what cannot be served."""
    max_tokens = max_new_tokens(len(prompt.token_ids), request.max_output_tokens, model, "input")
    tools = asked.offered.tools
    constraint, tool_parser, left_out = promised(
        model,
        prompt.tail,
        tools=tools or None,
        tool_choice=asked.offered.choice if tools or asked.offered.choice != "auto" else None,
        parallel_tool_calls=request.parallel_tool_calls,
        response_format=asked.response_format,
    )
    spec = GenerationSpec(
        request_id=request_id,
        prompt_ids=prompt.token_ids,
        media=prompt.perceived,
        prompt_tail=prompt.tail,
        sampling=_sampling(request, 1 if request.prewarms else max_tokens, model),
        tool_parser=tool_parser,
        reasoning_parser=model.reasoning_parser,
        tools=as_functions(tools) or (),
        tool_choice=as_function_choice(asked.offered.choice),
        content_logprobs=request.with_logprobs,
        constraint=constraint,
        left_out=[asked.places.words(one) for one in left_out],
        parallel=request.parallel_tool_calls is not False,
        priority=_priority(request),
        cache_salt=request.cache_salt,
        cache_key=request.prompt_cache_key,
        lora=model.lora,
    )
    return Generation(spec, model.tokenizer)


LATER = 10  # the priority of what need not be soon; lower is served first


def _priority(request: ResponsesRequest) -> int:
    if request.priority is not None:
        return request.priority
    window = request.background_options.completion_window if request.background_options else None
    return LATER if window in ("2h", "8h") else 0


def _sampling(request: ResponsesRequest, max_tokens: int, model: Model) -> SamplingParams:
    logprobs = (request.top_logprobs or 0) if request.with_logprobs else None
    if (request.top_logprobs or 0) > model.max_logprobs:
        raise BadRequestError(f"'top_logprobs' must be at most {model.max_logprobs}.", param="top_logprobs")
    if logprobs is not None and "logprobs" not in model.capabilities:
        raise NotSupportedError("This engine has no logprobs.", param="include")
    top_p, top_k = nucleus(request.top_p, None)
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature(request.temperature),
        top_p=top_p,
        top_k=top_k,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        logprobs=logprobs,
    )
    return defaulted(params, request, model)


def cut(asked: Asked, units: int) -> Asked:
    """The request without the first ``units`` of what was said: a message of somebody, or a turn of the model with the
    outputs of its calls. Instructions stay. The same request where there are no more to leave out."""
    messages, origins = asked.conversation.messages, asked.conversation.origins
    starts = [n for n, message in enumerate(messages) if message["role"] not in ("system", "developer", "tool")]
    if units >= len(starts):
        return asked
    first = starts[units]
    kept = [n for n, message in enumerate(messages) if n >= first or message["role"] in ("system", "developer")]
    conversation = replace(asked.conversation, messages=[messages[n] for n in kept], origins=[origins[n] for n in kept])
    return replace(asked, conversation=conversation)
