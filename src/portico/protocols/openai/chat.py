"""Chat completions: a request becomes a generation. The answer is in ``chat_answer``."""

from __future__ import annotations

from typing import Any

from portico.errors import BadRequestError
from portico.generation import Generation, GenerationSpec, Model, promised, thought_budget
from portico.prompting import Prompt
from portico.protocols.openai.chat_answer import ChatBody, ChatStream
from portico.protocols.openai.custom import (
    as_function_choice,
    as_functions,
    with_function_calls,
)
from portico.protocols.openai.sampling import max_new_tokens, sampling_params, stop_strings
from portico.protocols.openai.schema import ChatRequest
from portico.protocols.openai.tokens import TokenizeRequest
from portico.protocols.places import Places

__all__ = ["ChatBody", "ChatStream", "generation", "prompt_arguments"]


def prompt_arguments(request: ChatRequest | TokenizeRequest) -> dict[str, Any]:
    """What the prompter needs of the request, as its keyword arguments."""
    return {
        "messages": with_function_calls(request.messages or []),
        "tools": as_functions(request.client_tools),
        "documents": request.documents,
        "add_generation_prompt": request.add_generation_prompt,
        "continue_final_message": bool(request.continue_final_message),
        "reasoning_effort": request.reasoning_effort,
        "chat_template": request.chat_template,
        "chat_template_kwargs": request.chat_template_kwargs,
        "thinking_budget": request.thinking_token_budget,
        "add_special_tokens": bool(request.add_special_tokens),
        **_of_the_answer(request),
    }


def _of_the_answer(request: ChatRequest | TokenizeRequest) -> dict[str, Any]:
    """What only a request that is answered says."""
    if not isinstance(request, ChatRequest):
        return {}
    return {
        "response_format": request.response_format,
        "to_be_cut": request.truncate_prompt_tokens is not None,
    }


def generation(request: ChatRequest, prompt: Prompt, model: Model, request_id: str) -> Generation:
    """Decide everything about the request before admission. Raises ``BadRequestError`` for what cannot be served."""
    max_tokens = max_new_tokens(len(prompt.token_ids), request.most_tokens, model, "messages")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    tools = request.client_tools
    if tools is not None and len(tools) > model.limits.tools:
        raise BadRequestError(f"At most {model.limits.tools} tools are allowed.", param="tools")
    constraint, tool_parser, left_out = promised(
        model,
        prompt.tail,
        tools=tools,
        tool_choice=request.tool_choice,
        parallel_tool_calls=request.parallel_tool_calls,
        response_format=request.response_format,
        structured_outputs=request.structured_outputs,
        older=request.older_outputs,
    )
    calls_parser = tool_parser if tools and request.tool_choice != "none" else None
    thought = thought_budget(model, request.thinking_token_budget, prompt.tail, calls_parser)
    spec = GenerationSpec(
        request_id=request_id,
        prompt_ids=prompt.token_ids,
        media=prompt.perceived,
        prompt_tail=prompt.tail,
        sampling=sampling_params(request, model, max_tokens=max_tokens, logprobs=logprobs, thought=thought),
        n=request.n or 1,
        tool_parser=tool_parser,
        reasoning_parser=model.reasoning_parser,
        tools=as_functions(tools) or (),
        tool_choice=as_function_choice(request.tool_choice),
        stop=stop_strings(request, model),
        include_stop=bool(request.include_stop_str_in_output),
        skip_special_tokens=request.skip_special_tokens is not False,
        content_logprobs=logprobs is not None and request.logprobs_scope == "content",
        constraint=constraint,
        left_out=[Places(None, request.tool_places).words(one) for one in left_out],
        parallel=request.parallel_tool_calls is not False,
        priority=request.priority or 0,
        cache_salt=request.cache_salt,
        cache_key=request.prompt_cache_key,
        lora=model.lora,
    )
    return Generation(spec, model.tokenizer)
