"""Which path does what. Handlers tie the pure halves of a protocol to the line: parse, prepare, admit, answer."""

from __future__ import annotations

import asyncio
import time
from functools import cache, partial
from typing import Any

from pydantic import BaseModel

from portico import __version__
from portico.errors import EngineDeadError
from portico.generation import Model
from portico.prompting import Prompt
from portico.protocols.openai import chat, completions, embeddings, models, scoring, tokens
from portico.protocols.openai.embeddings import EmbeddedRequest
from portico.protocols.openai.schema import ChatRequest, CompletionRequest
from portico.protocols.validation import parse_body
from portico.server.answering import UNKNOWN_FIELDS, answer_body, answer_stream, computed, warn
from portico.server.anthropic_routes import BODIES as ANTHROPIC_BODIES
from portico.server.anthropic_routes import anthropic_routes
from portico.server.app import Methods
from portico.server.exchange import Exchange
from portico.server.metrics import CONTENT_TYPE
from portico.server.openapi import openapi_document
from portico.server.served import Served, ServedModel

__all__ = ["routes"]


DECODED_INLINE = 2_000  # tokens; more would hold up the event loop


def routes(served: Served) -> dict[str, Methods]:
    """Every path of the server, with its handlers."""
    handlers = Handlers(served)
    return {
        "/health": {"GET": handlers.health},
        "/ping": {"GET": handlers.health, "POST": handlers.health},
        "/version": {"GET": handlers.version},
        "/openapi.json": {"GET": handlers.openapi},
        "/metrics": {"GET": handlers.metrics},
        "/v1/chat/completions": {"POST": handlers.chat},
        "/v1/completions": {"POST": handlers.completions},
        "/v1/embeddings": {"POST": handlers.embeddings},
        "/v1/score": {"POST": handlers.score},
        "/v1/rerank": {"POST": handlers.rerank},
        "/tokenize": {"POST": handlers.tokenize},
        "/detokenize": {"POST": handlers.detokenize},
        "/v1/chat/completions/render": {"POST": handlers.render_chat},
        "/v1/completions/render": {"POST": handlers.render_completions},
        **anthropic_routes(served, handlers.list_models, handlers.get_model),
    }


BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/chat/completions", "POST"): ChatRequest,
    ("/v1/completions", "POST"): CompletionRequest,
    ("/v1/embeddings", "POST"): embeddings.EmbeddingRequest,
    ("/v1/score", "POST"): scoring.ScoreRequest,
    ("/v1/rerank", "POST"): scoring.RerankRequest,
    ("/tokenize", "POST"): tokens.TokenizeRequest,
    ("/detokenize", "POST"): tokens.DetokenizeRequest,
    ("/v1/chat/completions/render", "POST"): ChatRequest,
    ("/v1/completions/render", "POST"): CompletionRequest,
    **ANTHROPIC_BODIES,
}


class Handlers:
    """The handlers, over what is served."""

    def __init__(self, served: Served) -> None:
        self._served = served

    # -- about the server ---------------------------------------------------------------------------------------------

    async def health(self, exchange: Exchange) -> None:
        """200 while every engine can take requests, else 503."""
        if not self._served.healthy:
            raise EngineDeadError("The server cannot take requests now.", retry_after=1)
        await exchange.respond_json({"status": "ok"})

    async def version(self, exchange: Exchange) -> None:
        """Portico's version."""
        await exchange.respond_json({"version": __version__})

    async def openapi(self, exchange: Exchange) -> None:
        """This document."""
        await exchange.respond_json(self._document())

    @cache  # noqa: B019  (one instance per process)
    def _document(self) -> dict[str, Any]:
        paths = {
            path: {method: (handler.__doc__ or "").splitlines()[0] for method, handler in methods.items()}
            for path, methods in routes(self._served).items()
        }
        return openapi_document(paths, BODIES)

    async def metrics(self, exchange: Exchange) -> None:
        """Prometheus' text format."""
        await exchange.respond(200, self._served.metrics.render(), CONTENT_TYPE)

    async def list_models(self, exchange: Exchange) -> None:
        """Every served model."""
        await exchange.respond_json(models.model_list(self._served.cards))

    async def get_model(self, exchange: Exchange) -> None:
        """One served model."""
        name = exchange.path_params["model"]
        await exchange.respond_json(models.card(self._served.model(name).model, name))

    # -- generation ---------------------------------------------------------------------------------------------------

    async def chat(self, exchange: Exchange) -> None:
        """POST /v1/chat/completions."""
        request = parse_body(ChatRequest, await exchange.body())
        exchange.validated(request)
        served = self._served.generating(request.model)
        model = served.model
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        exchange.call_it(request.request_id)
        prompt = await model.prompter.chat(**chat.prompt_arguments(request))
        exchange.prompted(model, prompt)
        warn(exchange, "chat_template_kwargs ignored", prompt.passed_over)
        generation = chat.generation(request, prompt, model, exchange.request_id)
        created = int(time.time())
        if request.stream:
            stream = chat.ChatStream(request, generation, model, created)
            await answer_stream(exchange, self._served, served, [generation], stream)
        else:
            body = chat.ChatBody(request, generation, model, created)
            await answer_body(exchange, self._served, served, [generation], body)

    async def completions(self, exchange: Exchange) -> None:
        """POST /v1/completions."""
        request = parse_body(CompletionRequest, await exchange.body())
        exchange.validated(request)
        served = self._served.generating(request.model)
        model = served.model
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        exchange.call_it(request.request_id)
        prompts = await self._completion_prompts(request, model)
        exchange.prompted(model, *prompts)
        generations = completions.generations(request, prompts, model, exchange.request_id)
        created = int(time.time())
        if request.stream:
            encoder = completions.CompletionStream(request, generations, prompts, model, created)
            await answer_stream(exchange, self._served, served, generations, encoder)
        else:
            folded = completions.CompletionBody(request, generations, prompts, model, created)
            await answer_body(exchange, self._served, served, generations, folded)

    @staticmethod
    async def _completion_prompts(request: CompletionRequest, model: Model) -> list[Prompt]:
        special = request.add_special_tokens is not False
        return [
            await model.prompter.completion(prompt, add_special_tokens=special)
            for prompt in completions.prompts(request, model)
        ]

    # -- prompts alone ------------------------------------------------------------------------------------------------

    async def tokenize(self, exchange: Exchange) -> None:
        """POST /tokenize: a text's or a conversation's token ids."""
        request = parse_body(tokens.TokenizeRequest, await exchange.body())
        model = self._served.any(request.model).model
        if request.prompt is not None:
            special = request.add_special_tokens is not False
            prompt = await model.prompter.completion(request.prompt, add_special_tokens=special)
        else:
            prompt = await model.prompter.chat(**chat.prompt_arguments(request))
        await exchange.respond_json(tokens.tokenized(request, prompt, model))

    async def detokenize(self, exchange: Exchange) -> None:
        """POST /detokenize: the text of token ids."""
        request = parse_body(tokens.DetokenizeRequest, await exchange.body())
        model = self._served.any(request.model).model
        work = partial(tokens.detokenized, request, model)
        if len(request.tokens) <= DECODED_INLINE:
            await exchange.respond_json(work())
        else:
            await exchange.respond_json(await asyncio.get_running_loop().run_in_executor(None, work))

    async def render_chat(self, exchange: Exchange) -> None:
        """POST /v1/chat/completions/render: what the engine would get for this request."""
        request = parse_body(ChatRequest, await exchange.body())
        model = self._served.generating(request.model).model
        prompt = await model.prompter.chat(**chat.prompt_arguments(request))
        generation = chat.generation(request, prompt, model, exchange.request_id)
        await exchange.respond_json(tokens.rendered(generation, prompt))

    async def render_completions(self, exchange: Exchange) -> None:
        """POST /v1/completions/render: what the engine would get for each prompt."""
        request = parse_body(CompletionRequest, await exchange.body())
        model = self._served.generating(request.model).model
        prompts = await self._completion_prompts(request, model)
        generations = completions.generations(request, prompts, model, exchange.request_id)
        await exchange.respond_json([tokens.rendered(*pair) for pair in zip(generations, prompts, strict=True)])

    # -- embeddings ---------------------------------------------------------------------------------------------------

    async def embeddings(self, exchange: Exchange) -> None:
        """POST /v1/embeddings."""
        request = parse_body(embeddings.EmbeddingRequest, await exchange.body())
        served = self._embedding(exchange, request)
        model = served.model
        special = request.add_special_tokens is not False
        prompts = [
            await model.prompter.completion(one, add_special_tokens=special)
            for one in embeddings.inputs(request, model)
        ]
        exchange.prompted(model, *prompts)
        token_ids = embeddings.check_lengths(request, [list(prompt.token_ids) for prompt in prompts], model)
        batch = await computed(exchange, self._served, served.line.embed(token_ids))
        await exchange.respond(200, embeddings.body(request, batch.vectors, batch.prompt_tokens, model))

    async def score(self, exchange: Exchange) -> None:
        """POST /v1/score: how near texts are to each other, as cosines of their embeddings."""
        request = parse_body(scoring.ScoreRequest, await exchange.body())
        served = self._embedding(exchange, request)
        model = served.model
        first, second = scoring.pairs(request, model)
        token_ids = [
            *await self._text_ids(request, first, model, "text_1"),
            *await self._text_ids(request, second, model, "text_2"),
        ]
        batch = await computed(exchange, self._served, served.line.embed(token_ids))
        name, created = exchange.request_id, int(time.time())
        body = scoring.score_body(batch.vectors, len(first), batch.prompt_tokens, model, name=name, created=created)
        await exchange.respond_json(body)

    async def rerank(self, exchange: Exchange) -> None:
        """POST /v1/rerank: documents by their nearness to a query, as cosines of their embeddings."""
        request = parse_body(scoring.RerankRequest, await exchange.body())
        served = self._embedding(exchange, request)
        model = served.model
        query, documents = scoring.query_and_documents(request, model)
        token_ids = [
            *await self._text_ids(request, query, model, "query"),
            *await self._text_ids(request, documents, model, "documents"),
        ]
        batch = await computed(exchange, self._served, served.line.embed(token_ids))
        body = scoring.rerank_body(request, batch.vectors, batch.prompt_tokens, model, name=exchange.request_id)
        await exchange.respond_json(body)

    def _embedding(self, exchange: Exchange, request: EmbeddedRequest) -> ServedModel:
        """Note what the request says of itself; returns the model that it is for."""
        exchange.validated(request)
        exchange.call_it(request.request_id)
        served = self._served.embedding(request.model)
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        return served

    @staticmethod
    async def _text_ids(request: EmbeddedRequest, texts: list[str], model: Model, param: str) -> list[list[int]]:
        prompts = [await model.prompter.completion(text) for text in texts]
        return embeddings.check_lengths(request, [list(prompt.token_ids) for prompt in prompts], model, param)
