"""The paths of prompts alone: token ids, their text, and what the engine would get for a request."""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel

from portico.protocols.openai import chat, completions, tokens
from portico.protocols.openai.schema import ChatRequest, CompletionRequest
from portico.protocols.places import Places
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.server.routes.answering import chat_prompt, completion_prompts, model_for
from portico.server.routes.attachments import prompt_with_files

__all__ = ["BODIES", "PromptHandlers"]

DECODED_INLINE = 2_000  # tokens; more would hold up the event loop

TOKENIZE = ("/tokenize", "/v1/tokenize")
DETOKENIZE = ("/detokenize", "/v1/detokenize")

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    **{(path, "POST"): tokens.TokenizeRequest for path in TOKENIZE},
    **{(path, "POST"): tokens.DetokenizeRequest for path in DETOKENIZE},
    ("/v1/chat/completions/render", "POST"): ChatRequest,
    ("/v1/completions/render", "POST"): CompletionRequest,
}


class PromptHandlers:
    """The handlers, over what is served."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            **{path: {"POST": self.tokenize} for path in TOKENIZE},
            **{path: {"POST": self.detokenize} for path in DETOKENIZE},
            "/tokenizer_info": {"GET": self.tokenizer_info},
            "/v1/chat/completions/render": {"POST": self.render_chat},
            "/v1/completions/render": {"POST": self.render_completions},
        }

    async def tokenize(self, exchange: Exchange) -> None:
        """POST /tokenize: a text's or a conversation's token ids."""
        request = await exchange.request(tokens.TokenizeRequest)
        model = (await model_for(exchange, self._served.any(request.model))).model
        if request.prompt is not None:
            special = request.add_special_tokens is not False
            prompt = await exchange.wait(model.prompter.completion(request.prompt, add_special_tokens=special))
        else:
            arguments = chat.prompt_arguments(request)
            prompt = await exchange.wait(prompt_with_files(model, arguments, self._served.store))
        await exchange.respond_made(partial(tokens.tokenized, request, prompt, model))

    async def detokenize(self, exchange: Exchange) -> None:
        """POST /detokenize: the text of token ids."""
        request = await exchange.request(tokens.DetokenizeRequest)
        model = (await model_for(exchange, self._served.any(request.model))).model
        exchange.large = exchange.large or len(request.tokens) > DECODED_INLINE
        await exchange.respond_made(partial(tokens.detokenized, request, model))

    async def tokenizer_info(self, exchange: Exchange) -> None:
        """GET /tokenizer_info: the facts of a tokenizer, and the chat template; ``?model=`` names the model."""
        served = await model_for(exchange, self._served.any(exchange.query.get("model")))
        await exchange.respond_json(tokens.tokenizer_info(served.model))

    async def render_chat(self, exchange: Exchange) -> None:
        """POST /v1/chat/completions/render: what the engine would get for this request."""
        request = await exchange.request(ChatRequest)
        model = (await model_for(exchange, self._served.generating(request.model))).model
        with Places(None, request.tool_places).told():
            prompt = await chat_prompt(exchange, request, model, self._served.store)
            generation = await exchange.work(partial(chat.generation, request, prompt, model, exchange.request_id))
        await exchange.respond_made(partial(tokens.rendered, generation, prompt))

    async def render_completions(self, exchange: Exchange) -> None:
        """POST /v1/completions/render: what the engine would get for each prompt."""
        request = await exchange.request(CompletionRequest)
        model = (await model_for(exchange, self._served.generating(request.model))).model
        prompts = await completion_prompts(exchange, request, model)
        generations = await exchange.work(
            partial(completions.generations, request, prompts, model, exchange.request_id)
        )
        await exchange.respond_made(lambda: list(map(tokens.rendered, generations, prompts)))
