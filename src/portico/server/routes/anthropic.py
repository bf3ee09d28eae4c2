"""The paths of Anthropic's API. ``/v1/models`` is OpenAI's too: the ``anthropic-version`` header decides."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from pydantic import BaseModel

from portico.generation import Model
from portico.prompting import Prompt
from portico.protocols.anthropic import messages, models
from portico.protocols.anthropic.context import edited
from portico.protocols.anthropic.ids import new_id, request_id
from portico.protocols.anthropic.messages import Asked
from portico.protocols.anthropic.schema import CountTokensRequest, MessagesRequest
from portico.protocols.anthropic.signatures import Signer
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange, Handler
from portico.server.line.served import Served
from portico.server.routes.answering import LEFT_OUT, UNKNOWN_FIELDS, answer_body, answer_stream, model_for, warn
from portico.server.routes.attachments import prompt_with_files

__all__ = ["BODIES", "AnthropicHandlers", "by_version"]

log = logging.getLogger("portico")

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/messages", "POST"): MessagesRequest,
    ("/v1/messages/count_tokens", "POST"): CountTokensRequest,
}


def by_version(anthropic: Handler, other: Handler) -> Handler:
    """The first handler for requests that carry ``anthropic-version``, the second for the rest."""

    async def handler(exchange: Exchange) -> None:
        await (other if exchange.header(b"anthropic-version") is None else anthropic)(exchange)

    handler.__doc__ = other.__doc__
    return handler


class AnthropicHandlers:
    """The handlers, over what is served."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._signer = Signer(served.signing_key)

    def routes(self, list_models: Handler, get_model: Handler) -> dict[str, Methods]:
        """The paths, with their handlers. ``list_models`` and ``get_model`` answer clients of another API."""
        return {
            "/v1/messages": {"POST": self.create},
            "/v1/messages/count_tokens": {"POST": self.count_tokens},
            "/v1/models": {"GET": by_version(self.list_models, list_models)},
            "/v1/models/{model:path}": {"GET": by_version(self.get_model, get_model)},
        }

    async def create(self, exchange: Exchange) -> None:
        """POST /v1/messages."""
        request = await exchange.request(MessagesRequest)
        served = await model_for(exchange, self._served.generating(request.model))
        model = served.model
        asked, prompt, edits = await self._prompt(exchange, request, model)
        exchange.prompted(model, prompt)
        with asked.places.told():
            betas = [beta.strip() for beta in (exchange.header(b"anthropic-beta") or "").split(",")]
            message_id = new_id("msg")  # also the engine's word for it: the request's own id is the client's to repeat
            generation = await exchange.work(
                partial(messages.generation, request, asked, prompt, model, message_id, betas)
            )
            if request.stream:
                stream = messages.MessageStream(
                    request,
                    generation,
                    model,
                    self._signer,
                    message_id=message_id,
                    request_id=request_id(exchange.request_id),
                    edits=edits,
                )
                del request, asked  # what is open for minutes keeps what it needs
                await answer_stream(exchange, self._served, served, [generation], stream)
            else:
                body = messages.MessageBody(
                    request, generation, model, self._signer, message_id=message_id, edits=edits
                )
                await answer_body(exchange, self._served, served, [generation], body)

    async def count_tokens(self, exchange: Exchange) -> None:
        """POST /v1/messages/count_tokens: what the same message would cost as input."""
        request = await exchange.request(CountTokensRequest)
        model = (await model_for(exchange, self._served.generating(request.model))).model
        _, prompt, edits = await self._prompt(exchange, request, model)
        await exchange.respond_json(messages.token_count(prompt, edits))

    async def _prompt(
        self, exchange: Exchange, request: CountTokensRequest, model: Model
    ) -> tuple[Asked, Prompt, list[dict[str, Any]] | None]:
        """The request and its prompt, after what it wants cleared; says what was left out, and what was cleared."""
        asked, prompt = await self._rendered(exchange, request, model)
        applied = []
        for edit in request.edits:
            change = await exchange.work(partial(edited, edit, request.messages, len(prompt.token_ids)))
            if change is None:
                continue
            changed = request.model_copy(update={"messages": change.messages})
            asked_then, prompt_then = await self._rendered(exchange, changed, model)
            saved = len(prompt.token_ids) - len(prompt_then.token_ids)
            if change.enough(saved):
                request, asked, prompt = changed, asked_then, prompt_then
                applied.append(change.told(saved))
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        told = (asked.places.words(one) for one in prompt.left_out)
        left_out = [*asked.left_out, *told]
        warn(exchange, LEFT_OUT, left_out)
        if left_out:
            log.warning("%s: left out of the prompt: %s", exchange.request_id, ", ".join(left_out[:20]))
        return asked, prompt, None if request.context_management is None else applied

    async def _rendered(self, exchange: Exchange, request: CountTokensRequest, model: Model) -> tuple[Asked, Prompt]:
        asked = await exchange.work(partial(messages.read_request, request, model, self._signer))
        with asked.places.told():
            return asked, await exchange.wait(prompt_with_files(model, asked.prompt_arguments, self._served.store))

    async def list_models(self, exchange: Exchange) -> None:
        """Served models, by the page."""
        await exchange.respond_json(models.page(list(self._served.cards), exchange.query))

    async def get_model(self, exchange: Exchange) -> None:
        """One served model."""
        await exchange.respond_json(models.card(self._served.card(exchange.path_params["model"])))
