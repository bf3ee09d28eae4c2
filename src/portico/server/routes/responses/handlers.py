"""Responses: create, read, cancel, delete, count, compact."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from pydantic import BaseModel

from portico.errors import BadRequestError, ContextLengthError, NotFoundError
from portico.generation import Generation, Model
from portico.prompting import Prompt
from portico.protocols import sse
from portico.protocols.responses.ids import new_id
from portico.protocols.responses.items import Item, kept_items
from portico.protocols.responses.paging import page
from portico.protocols.responses.request import Asked, cut, generation, read_request
from portico.protocols.responses.response import TERMINAL, new_response
from portico.protocols.responses.schema import CompactRequest, InputTokensRequest, ResponsesRequest
from portico.protocols.responses.sealing import Sealer
from portico.protocols.responses.stream import Answer, ResponseBody, ResponseStream
from portico.server.http.app import Methods
from portico.server.http.exchange import ClientGoneError, Exchange
from portico.server.line.served import Served, ServedModel
from portico.server.routes.answering import LEFT_OUT, UNKNOWN_FIELDS, answer_body, answer_stream, warn
from portico.server.routes.responses.background import Background, starting_after
from portico.server.routes.responses.keeping import Keeping
from portico.server.routes.responses.past import NO_STORE, Lane, Past, resolved
from portico.store import Store, StoredResponse
from portico.threads import CALLER

__all__ = ["BODIES", "ResponseHandlers"]

log = logging.getLogger("portico")

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/responses", "POST"): ResponsesRequest,
    ("/v1/responses/input_tokens", "POST"): InputTokensRequest,
    ("/v1/responses/compact", "POST"): CompactRequest,
}

LANE = "portico.lane"  # in an exchange's scope: the ``Lane`` of the WebSocket that it came over


class ResponseHandlers:
    """The handlers, over what is served and what is stored."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._sealer = Sealer(served.signing_key)
        self._background = Background(served)

    @property
    def _store(self) -> Store | None:
        return self._served.store

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            "/v1/responses": {"POST": self.create},
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
        by = self._served.generating(request.model)
        owner = CALLER.get()
        lane: Lane | None = exchange.scope.get(LANE)
        kept = self._store is not None and request.store is not False and not request.prewarms
        if request.background and not kept:
            raise BadRequestError(NO_STORE, param="background")
        past = await Past.of(request, self._store, owner, lane)
        own = kept_items(await resolved(request.given, past, self._store, owner))
        asked, prompt = await self._prompt(exchange, request, past.items, own, by.model)
        with asked.places.told():
            response_id = new_id("resp")
            made = await exchange.work(partial(generation, request, asked, prompt, by.model, response_id))
            now = time.time()
            response = new_response(request, by.model, id=response_id, created=int(now), kept=kept)
            answer = Answer(
                request, response, asked.offered, by.model, self._sealer, time.time, streamed=bool(request.stream)
                or bool(request.background),
            )  # fmt: skip
            answer.take_up(made)
            turn = _Turn(self._store if kept else None, owner, past, own, lane)
            if request.background:
                await self._background.answer(exchange, by, made, answer, turn, streamed=bool(request.stream))
            else:
                await self._answer(exchange, request, by, made, answer, turn)

    async def _answer(
        self,
        exchange: Exchange,
        request: ResponsesRequest,
        by: ServedModel,
        made: Generation,
        answer: Answer,
        turn: _Turn,
    ) -> None:
        """In the foreground: to the client that waits for it."""
        await turn.begin(answer)
        keeping: list[Keeping] = []

        def around(sink: Any) -> Keeping:
            keeping.append(Keeping(answer, sink, turn.keep if turn.keeps else None))
            return keeping[0]

        try:
            if request.stream:
                await answer_stream(exchange, self._served, by, [made], ResponseStream(answer), around)
            else:
                await answer_body(exchange, self._served, by, [made], ResponseBody(answer), around)
        except ClientGoneError:
            if keeping:
                await keeping[0].cancelled()
            raise
        finally:
            await turn.end(answer)

    async def _prompt(
        self, exchange: Exchange, request: InputTokensRequest, before: list[Item], own: list[Item], model: Model
    ) -> tuple[Asked, Prompt]:
        """The request and its prompt, cut where it may be; says what was left out."""
        items = [*before, *own]
        asked = await exchange.work(partial(read_request, request, items, len(before), model, self._sealer))
        prompt = await self._fitting(exchange, request, asked, model)
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        warn(exchange, "chat_template_kwargs ignored", prompt.passed_over)
        left_out = [*asked.left_out, *(asked.places.words(one) for one in prompt.left_out)]
        warn(exchange, LEFT_OUT, left_out)
        if left_out:
            log.warning("%s: left out of the prompt: %s", exchange.request_id, ", ".join(left_out[:20]))
        exchange.prompted(model, prompt)
        return asked, prompt

    async def _fitting(self, exchange: Exchange, request: InputTokensRequest, asked: Asked, model: Model) -> Prompt:
        """The prompt; with ``truncation: auto`` without what was said first, as little of it as lets it fit."""
        whole = await self._rendered(exchange, asked, model, whole=request.truncation == "auto")
        if whole is not None:
            return whole
        low, high, found = 0, len(asked.conversation.messages), None  # ``low`` does not fit
        while high - low > 1:
            middle = (low + high) // 2
            shorter = cut(asked, middle)
            prompt = None if shorter is asked else await self._rendered(exchange, shorter, model, whole=True)
            if prompt is not None or shorter is asked:
                high, found = middle, prompt or found
            else:
                low = middle
        if found is not None:
            return found
        prompt = await self._rendered(exchange, asked, model)
        assert prompt is not None
        return prompt

    async def _rendered(self, exchange: Exchange, asked: Asked, model: Model, *, whole: bool = False) -> Prompt | None:
        """The prompt; with ``whole`` None where it leaves no room for an answer."""
        with asked.places.told():
            try:
                prompt = await exchange.wait(model.prompter.chat(**asked.prompt_arguments))
            except ContextLengthError:
                if whole:
                    return None
                raise
        return None if whole and len(prompt.token_ids) >= model.context_length else prompt

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
        model = self._served.generating(request.model).model
        owner = CALLER.get()
        past = await Past.of(request, self._store, owner)
        own = kept_items(await resolved(request.given, past, self._store, owner))
        _, prompt = await self._prompt(exchange, request, past.items, own, model)
        await exchange.respond_json({"object": "response.input_tokens", "input_tokens": len(prompt.token_ids)})

    async def compact(self, exchange: Exchange) -> None:
        """POST /v1/responses/compact: the conversation in short, to go on from."""
        raise NotFoundError("Not here.")


class _Turn:
    """One response and what it is added to."""

    def __init__(self, store: Store | None, owner: str, past: Past, own: list[Item], lane: Lane | None) -> None:
        self._store = store
        self.owner = owner
        self._past = past
        self._own = own
        self._lane = lane

    @property
    def keeps(self) -> bool:
        """Whether anything is to be kept of it."""
        return self._store is not None or self._lane is not None

    def stored(self, answer: Answer) -> StoredResponse:
        """The response as it is kept now."""
        response = answer.response
        return StoredResponse(
            id=response["id"],
            owner=self.owner,
            created_at=response["created_at"],
            status=response["status"],
            model=response["model"],
            previous_id=self._past.previous_id,
            conversation_id=self._past.conversation_id,
            background=response["background"],
            input=self._own,
            output=response["output"],
            body=response,
        )

    async def begin(self, answer: Answer) -> None:
        """Take what it is added to. Raises where that is taken."""
        await self._past.lock(self._store, self.owner, answer.response["id"])

    async def keep(self, answer: Answer) -> None:
        """The response has ended: keep it, and add it to its conversation. Raises ``StoreError``."""
        stored = self.stored(answer)
        if self._lane is not None:
            if stored.status in ("completed", "incomplete"):
                self._lane.last, self._lane.before = stored, self._past.items
            else:
                self._lane.forget()
        if self._store is not None:
            good = stored.status in ("completed", "incomplete")
            new = [*self._own, *stored.output] if good and stored.conversation_id is not None else []
            await self._store.finish_turn(stored, stored.conversation_id, new)

    async def end(self, answer: Answer) -> None:
        """However it went: let go of what it was added to."""
        await self._past.unlock(self._store, self.owner, answer.response["id"])
