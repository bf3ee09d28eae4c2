"""The paths of OpenAI's generating APIs. Handlers tie the pure halves of a protocol to the line: parse, prepare, admit,
answer."""

from __future__ import annotations

import time
from functools import partial

from pydantic import BaseModel

from portico.protocols.openai import chat, completions
from portico.protocols.openai.schema import ChatRequest, CompletionRequest
from portico.protocols.places import Places
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.server.routes.answering import (
    LEFT_OUT,
    UNKNOWN_FIELDS,
    answer_body,
    answer_stream,
    chat_prompt,
    completion_prompts,
    model_for,
    warn,
)

__all__ = ["BODIES", "OpenAIHandlers"]

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/chat/completions", "POST"): ChatRequest,
    ("/v1/completions", "POST"): CompletionRequest,
}


class OpenAIHandlers:
    """The handlers, over what is served."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            "/v1/chat/completions": {"POST": self.chat},
            "/v1/completions": {"POST": self.completions},
        }

    async def chat(self, exchange: Exchange) -> None:
        """POST /v1/chat/completions."""
        request = await exchange.request(ChatRequest)
        served = await model_for(exchange, self._served.generating(request.model))
        model = served.model
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        exchange.call_it(request.request_id)
        places = Places(None, request.tool_places)
        with places.told():
            prompt = await chat_prompt(exchange, request, model, self._served.store)
            exchange.prompted(model, prompt)
            warn(exchange, "chat_template_kwargs ignored", prompt.passed_over)
            warn(exchange, LEFT_OUT, [*request.hosted_tools, *map(places.words, prompt.left_out)])
            generation = await exchange.work(partial(chat.generation, request, prompt, model, exchange.request_id))
            created = int(time.time())
            if request.stream:
                stream = chat.ChatStream(request, generation, model, created)
                del request  # what is open for minutes keeps what it needs
                await answer_stream(exchange, self._served, served, [generation], stream)
            else:
                body = chat.ChatBody(request, generation, model, created)
                await answer_body(exchange, self._served, served, [generation], body)

    async def completions(self, exchange: Exchange) -> None:
        """POST /v1/completions."""
        request = await exchange.request(CompletionRequest)
        served = await model_for(exchange, self._served.generating(request.model))
        model = served.model
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        exchange.call_it(request.request_id)
        prompts = await completion_prompts(exchange, request, model)
        exchange.prompted(model, *prompts)
        generations = await exchange.work(
            partial(completions.generations, request, prompts, model, exchange.request_id)
        )
        created = int(time.time())
        if request.stream:
            encoder = completions.CompletionStream(request, generations, prompts, model, created)
            del request
            await answer_stream(exchange, self._served, served, generations, encoder)
        else:
            folded = completions.CompletionBody(request, generations, prompts, model, created)
            await answer_body(exchange, self._served, served, generations, folded)
