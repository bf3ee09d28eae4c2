"""The paths of embeddings: OpenAI's own, and what is made of them, scores and ranks."""

from __future__ import annotations

import time
from functools import partial

from pydantic import BaseModel

from portico.engines import EmbeddingBatch
from portico.generation import Model
from portico.protocols.openai import embeddings, scoring
from portico.protocols.openai.embeddings import EmbeddedRequest
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.model import ServedModel
from portico.server.line.served import Served
from portico.server.routes.answering import UNKNOWN_FIELDS, model_for, warn

__all__ = ["BODIES", "EmbeddingHandlers"]

SCORE = ("/v1/score", "/score")
RERANK = ("/v1/rerank", "/rerank", "/v2/rerank")

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/embeddings", "POST"): embeddings.EmbeddingRequest,
    **{(path, "POST"): scoring.ScoreRequest for path in SCORE},
    **{(path, "POST"): scoring.RerankRequest for path in RERANK},
}


class EmbeddingHandlers:
    """The handlers, over what is served."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            "/v1/embeddings": {"POST": self.embeddings},
            **{path: {"POST": self.score} for path in SCORE},
            **{path: {"POST": self.rerank} for path in RERANK},
        }

    async def embeddings(self, exchange: Exchange) -> None:
        """POST /v1/embeddings."""
        request = await exchange.request(embeddings.EmbeddingRequest)
        served = await self._embedding(exchange, request)
        model = served.model
        special = request.add_special_tokens is not False
        to_be_cut = request.truncate_prompt_tokens is not None
        prompts = [
            await exchange.wait(model.prompter.completion(one, add_special_tokens=special, to_be_cut=to_be_cut))
            for one in await exchange.work(partial(embeddings.inputs, request, model))
        ]
        exchange.prompted(model, *prompts)
        token_ids = embeddings.check_lengths(request, [list(prompt.token_ids) for prompt in prompts], model)
        batch = await self._vectors(exchange, served, token_ids)
        await exchange.respond(200, embeddings.body(request, batch.vectors, batch.prompt_tokens, model))

    async def score(self, exchange: Exchange) -> None:
        """POST /v1/score: how near texts are to each other, as cosines of their embeddings."""
        request = await exchange.request(scoring.ScoreRequest)
        served = await self._embedding(exchange, request)
        model = served.model
        first, second = scoring.pairs(request, model)
        token_ids = [
            *await self._text_ids(exchange, request, first, model, "text_1"),
            *await self._text_ids(exchange, request, second, model, "text_2"),
        ]
        batch = await self._vectors(exchange, served, token_ids)
        name, created = exchange.request_id, int(time.time())
        body = scoring.score_body(batch.vectors, len(first), batch.prompt_tokens, model, name=name, created=created)
        await exchange.respond_json(body)

    async def rerank(self, exchange: Exchange) -> None:
        """POST /v1/rerank: documents by their nearness to a query, as cosines of their embeddings."""
        request = await exchange.request(scoring.RerankRequest)
        served = await self._embedding(exchange, request)
        model = served.model
        query, documents = scoring.query_and_documents(request, model)
        token_ids = [
            *await self._text_ids(exchange, request, query, model, "query"),
            *await self._text_ids(exchange, request, documents, model, "documents"),
        ]
        batch = await self._vectors(exchange, served, token_ids)
        body = scoring.rerank_body(request, batch.vectors, batch.prompt_tokens, model, name=exchange.request_id)
        await exchange.respond_json(body)

    async def _vectors(self, exchange: Exchange, served: ServedModel, token_ids: list[list[int]]) -> EmbeddingBatch:
        batch = await exchange.while_there(served.line.embed(token_ids), self._served.request_timeout)
        if exchange.trace is not None:
            exchange.embedded(batch.vectors.tolist())
        return batch

    async def _embedding(self, exchange: Exchange, request: EmbeddedRequest) -> ServedModel:
        """Note what the request says of itself; returns the model that it is for."""
        exchange.call_it(request.request_id)
        served = await model_for(exchange, self._served.embedding(request.model))
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        return served

    @staticmethod
    async def _text_ids(
        exchange: Exchange, request: EmbeddedRequest, texts: list[str], model: Model, param: str
    ) -> list[list[int]]:
        to_be_cut = request.truncate_prompt_tokens is not None
        prompts = [await exchange.wait(model.prompter.completion(text, to_be_cut=to_be_cut)) for text in texts]
        return embeddings.check_lengths(request, [list(prompt.token_ids) for prompt in prompts], model, param)
