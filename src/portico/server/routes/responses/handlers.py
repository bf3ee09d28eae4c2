"""Responses: create, read, cancel, delete, count, compact."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from portico.errors import BadRequestError, NotFoundError
from portico.extras import installing
from portico.generation import Generation
from portico.protocols import sse
from portico.protocols.paging import page
from portico.protocols.responses.compaction import (
    COMPACTING,
    compacted,
    compaction_object,
    summary_generation,
    triggered,
)
from portico.protocols.responses.ids import new_id
from portico.protocols.responses.items import Item, check_items, kept_items
from portico.protocols.responses.request import generation
from portico.protocols.responses.response import TERMINAL, new_response
from portico.protocols.responses.schema import CompactRequest, InputTokensRequest, PromptFields, ResponsesRequest
from portico.protocols.responses.sealing import Sealer
from portico.protocols.responses.stream import Answer, ResponseBody, ResponseStream
from portico.server.http.app import Methods
from portico.server.http.exchange import ClientGoneError, Exchange
from portico.server.http.sockets import WEBSOCKET
from portico.server.line.model import ServedModel
from portico.server.line.served import Served
from portico.server.routes.answering import UNKNOWN_FIELDS, answer_body, answer_stream, model_for, warn
from portico.server.routes.responses.background import Background, starting_after
from portico.server.routes.responses.keeping import Keeping
from portico.server.routes.responses.past import NO_STORE, Lane, Past, resolved
from portico.server.routes.responses.prompts import Prompts
from portico.server.routes.responses.running import McpTools, Running
from portico.server.routes.responses.socket import LANE, serve_socket
from portico.server.routes.responses.turn import Turn
from portico.store import StoredResponse
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.server.routes.responses.mcp import McpClient
    from portico.store import Store

__all__ = ["BODIES", "ResponseHandlers"]

log = logging.getLogger("portico")

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/responses", "POST"): ResponsesRequest,
    ("/v1/responses/input_tokens", "POST"): InputTokensRequest,
    ("/v1/responses/compact", "POST"): CompactRequest,
}


class ResponseHandlers:
    """The handlers, over what is served and what is stored."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._sealer = Sealer(served.signing_key)
        self._prompts = Prompts(served, self._sealer)
        self._background = Background(served)
        self._mcp = _mcp_client(served)

    @property
    def _store(self) -> Store | None:
        return self._served.store

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            "/v1/responses": {"POST": self.create, WEBSOCKET: self.socket},
            "/v1/responses/input_tokens": {"POST": self.input_tokens},
            "/v1/responses/compact": {"POST": self.compact},
            "/v1/responses/{id}": {"GET": self.get, "DELETE": self.delete},
            "/v1/responses/{id}/cancel": {"POST": self.cancel},
            "/v1/responses/{id}/input_items": {"GET": self.input_items},
        }

    # -- create -------------------------------------------------------------------------------------------------------

    async def create(self, exchange: Exchange) -> None:
        """POST /v1/responses."""
        request = await exchange.request(ResponsesRequest)
        by = await model_for(exchange, self._served.generating(request.model))
        lane: Lane | None = exchange.scope.get(LANE)
        kept = self._store is not None and request.store is not False and not request.prewarms
        if request.background and not kept:
            raise BadRequestError(NO_STORE, param="background")
        past, own = await self._items(exchange, request, lane)
        tools = await self._tools(exchange, request, [*past.items, *own])
        seen = [*own, *tools.items]
        asked, prompt, summary = await self._prompts.in_bounds(exchange, request, past.items, seen, by, tools.listed)
        compacts = triggered(request.given)
        with asked.places.told():
            id = new_id("resp")
            if compacts:
                made = summary_generation(prompt, by.model, id)
            else:
                made = await exchange.work(partial(generation, request, asked, prompt, by.model, id))
            if exchange.trace is not None:
                exchange.trace.follows(id, past.previous_id, past.conversation_id, bool(request.background))
            response = new_response(request, by.model, id=id, created=int(time.time()), kept=kept)
            answer = Answer(
                request,
                response,
                asked.offered,
                by.model,
                self._sealer,
                time.time,
                streamed=bool(request.stream or request.background),
                compacts=compacts,
            )
            if summary is not None:
                answer.made.append((summary.item, COMPACTING))
                answer.take_up(summary.generation)
            answer.made += tools.made
            answer.take_up(made)
            running = Running(self._served, self._prompts, by, request, asked, answer, tools, exchange)
            turn = Turn(self._store if kept else None, CALLER.get(), past, own, lane)
            if request.background:
                streamed = bool(request.stream)
                await self._background.answer(exchange, by, made, answer, turn, running.go_on, streamed=streamed)
            else:
                await self._answer(exchange, request, by, made, answer, turn, running)

    async def _items(
        self, exchange: Exchange, request: PromptFields, lane: Lane | None = None
    ) -> tuple[Past, list[Item]]:
        """What the request follows, and its own items. Raises where one of them is not here."""
        owner = CALLER.get()
        await exchange.work(partial(check_items, request.given))
        past = await Past.of(request, self._store, owner, lane)
        own = await resolved(request.given, past, self._store, owner)
        return past, await exchange.work(partial(kept_items, own))

    async def _tools(self, exchange: Exchange, request: InputTokensRequest, items: list[Item]) -> McpTools:
        """The tools of MCP servers that the request may have called, listed where ``items`` do not list them."""
        tools = McpTools(self._mcp, request)
        if tools.servers:
            await exchange.while_there(tools.prepare(items))
        return tools

    async def socket(self, exchange: Exchange) -> None:
        """GET /v1/responses as a WebSocket."""
        await serve_socket(exchange)

    async def _answer(
        self,
        exchange: Exchange,
        request: ResponsesRequest,
        by: ServedModel,
        made: Generation,
        answer: Answer,
        turn: Turn,
        running: Running,
    ) -> None:
        """In the foreground: to the client that waits for it."""
        await turn.begin(answer)
        keeping: list[Keeping] = []

        def around(sink: Any) -> Keeping:
            keep = turn.keep if turn.keeps else None
            keeping.append(Keeping(answer, sink, self._served.endings, keep, running.go_on))
            return keeping[0]

        try:
            if request.stream:
                await answer_stream(exchange, self._served, by, [made], ResponseStream(answer), around)
            else:
                await answer_body(exchange, self._served, by, [made], ResponseBody(answer), around)
            if not answer.over:  # it went while a tool ran, or in a later generation
                raise ClientGoneError
        except ClientGoneError:
            if keeping:
                await keeping[0].cancelled()
            raise
        finally:
            await turn.end(answer)

    # -- what is stored -----------------------------------------------------------------------------------------------

    async def get(self, exchange: Exchange) -> None:
        """GET /v1/responses/{id}: the response as it is now, or with ``stream`` its events."""
        stored = await self._stored(exchange)
        if exchange.query.get("stream", "").lower() not in ("true", "1"):
            await exchange.respond_json(stored.body)
            return
        if not stored.background:
            raise BadRequestError("Only responses that were made in the background can be streamed.", param="stream")
        after = starting_after(exchange.query.get("starting_after"))
        if exchange.method == "HEAD":
            await exchange.respond(200, b"", sse.MEDIA_TYPE)
            return
        await self._background.read(exchange, stored, after)

    async def delete(self, exchange: Exchange) -> None:
        """DELETE /v1/responses/{id}."""
        stored = await self._stored(exchange)
        assert self._store is not None
        await self._background.cancel(stored)
        await self._store.delete_response(CALLER.get(), stored.id)
        await exchange.respond_json({"id": stored.id, "object": "response", "deleted": True})

    async def cancel(self, exchange: Exchange) -> None:
        """POST /v1/responses/{id}/cancel: again and again, with the same answer."""
        stored = await self._stored(exchange)
        if not stored.background:
            raise BadRequestError("Cannot cancel a synchronous response.", param="response_id")
        if stored.status not in TERMINAL:
            stored = await self._background.cancel(stored) or await self._stored(exchange)
        await exchange.respond_json(stored.body)

    async def input_items(self, exchange: Exchange) -> None:
        """GET /v1/responses/{id}/input_items: all that the model saw, newest first."""
        stored = await self._stored(exchange)
        items = list(stored.input)
        if stored.previous_id is not None or stored.conversation_id is not None:
            before = await self._before(stored)
            items = [*before, *items]
        await exchange.respond_json(page(items, exchange.query))

    async def _before(self, stored: StoredResponse) -> list[Item]:
        """What came before the response's own input, as far as it is kept."""
        assert self._store is not None
        if stored.previous_id is None:
            return []
        try:
            chain = await self._store.chain(stored.owner, stored.previous_id)
        except LookupError:
            return []
        return [item for one in chain for item in (*one.input, *one.output)]

    async def _stored(self, exchange: Exchange) -> StoredResponse:
        id = exchange.path_params["id"]
        found = None if self._store is None else await self._store.response(CALLER.get(), id)
        if found is None:
            raise NotFoundError(f"Response with id '{id[:64]}' not found.", param="response_id")
        return found

    # -- without an answer --------------------------------------------------------------------------------------------

    async def input_tokens(self, exchange: Exchange) -> None:
        """POST /v1/responses/input_tokens: what the same response would cost as input."""
        request = await exchange.request(InputTokensRequest)
        model = (await model_for(exchange, self._served.generating(request.model))).model
        past, own = await self._items(exchange, request)
        tools = await self._tools(exchange, request, [*past.items, *own])
        _, prompt = await self._prompts.prompt(exchange, request, past.items, own, model, tools.listed)
        await exchange.respond_json({"object": "response.input_tokens", "input_tokens": len(prompt.token_ids)})

    async def compact(self, exchange: Exchange) -> None:
        """POST /v1/responses/compact: the conversation in short, to go on from."""
        request = await exchange.request(CompactRequest)
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        by = await model_for(exchange, self._served.generating(request.model))
        past, own = await self._items(exchange, request)
        items = [*past.items, *own]
        summary = await self._prompts.summary(exchange, request, items, by)
        output = compacted(items, summary.item)
        await exchange.respond_json(compaction_object(output, int(time.time()), summary.generation.usage))


def _mcp_client(served: Served) -> McpClient | None:
    """Who speaks to MCP servers, where the operator lists any."""
    if not served.mcp_allow:
        return None
    try:
        from portico.server.routes.responses.mcp import McpClient  # an extra, and a second of imports
    except ImportError as error:
        raise BadRequestError(
            f"MCP needs more packages ({error.name} is missing): {installing('mcp')}.", param="mcp_allow"
        ) from None
    return McpClient(served.mcp_allow)
