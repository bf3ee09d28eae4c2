"""Messages: a request becomes a generation, or the count of its tokens. The answer is in ``answer``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from portico.errors import BadRequestError, ContextLengthError, NotSupportedError
from portico.events import SamplingParams, ThoughtBudget
from portico.generation import Generation, GenerationSpec, Model, Promise, promised, thought_budget
from portico.prompting import Prompt
from portico.protocols.anthropic.answer import PING, Edits, MessageBody, MessageStream
from portico.protocols.anthropic.context import is_known
from portico.protocols.anthropic.conversation import read_conversation
from portico.protocols.anthropic.schema import CountTokensRequest, MessagesRequest
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.anthropic.tools import neutral_choice, neutral_tools
from portico.protocols.places import Places
from portico.protocols.sampling import defaulted, nucleus, temperature

__all__ = ["PING", "Asked", "MessageBody", "MessageStream", "generation", "read_request", "token_count"]

INTERLEAVED = "interleaved-thinking"  # with this beta a budget counts for several turns, so it may be over max_tokens


@dataclass(frozen=True)
class Asked:
    """A request in neutral words: what the prompter takes, and what beside the prompt decides the answer.

    ``left_out`` names what of the request did not reach the model; ``places`` say where in the request its messages and
    tools come from.
    """

    prompt_arguments: dict[str, Any]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel: bool
    left_out: list[str]
    places: Places


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
        places=Places(conversation.origins, shown.places, schema="input_schema", answer="output_config.format"),
    )


def _not_carried_out(request: CountTokensRequest) -> Iterator[str]:
    """What of the request this server does not do, for people."""
    if request.mcp_servers:
        yield "mcp_servers (this server calls none)"
    if request.thinking and request.thinking.type not in _THINKS:
        yield f"thinking.type ({request.thinking.type[:40]})"
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
        media=prompt.perceived,
        prompt_tail=prompt.tail,
        sampling=defaulted(_sampling(request, min(request.max_tokens, room), thought), request, model),
        tool_parser=tool_parser,
        reasoning_parser=model.reasoning_parser,
        tools=asked.tools,
        tool_choice=asked.tool_choice,
        parallel=asked.parallel,
        stop=stops,
        constraint=constraint,
        left_out=[asked.places.words(one) for one in left_out],
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
