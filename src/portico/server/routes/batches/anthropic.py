"""Message batches, as Anthropic's API has them: made of requests, read, listed, cancelled, deleted, and their results.
Who runs them is ``server.batches``."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel

from portico.errors import BadRequestError, NotFoundError
from portico.protocols.batches.anthropic import CreateMessageBatchRequest, batch_list, read_requests, shown
from portico.protocols.batches.lines import run_order
from portico.protocols.batches.record import WINDOW, Record
from portico.protocols.files import new_id
from portico.protocols.paging import limit_of
from portico.server.batches.results import results
from portico.server.http.app import Methods
from portico.server.http.browsers import with_port
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.server.routes.batches.stored import begin_cancelling, named_batch, stored_batches
from portico.store import NewLine, StoredBatch
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["BODIES", "MessageBatchHandlers"]

KIND: Final = "anthropic"
PATH: Final = "/v1/messages/batches"

BODIES: dict[tuple[str, str], type[BaseModel]] = {(PATH, "POST"): CreateMessageBatchRequest}

PASSED_ON: Final = ("anthropic-version", "anthropic-beta")  # headers of a batch that its requests have too
USUAL, MOST = 20, 1000  # batches of a page
PIECE: Final = 64 << 10  # bytes of results that are sent at once

_HOST = re.compile(r"[\w.\-]+(:\d{1,5})?|\[[0-9a-fA-F:.]+\](:\d{1,5})?", re.ASCII)


class MessageBatchHandlers:
    """The handlers, over what is stored."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            PATH: {"POST": self.create, "GET": self.list},
            PATH + "/{id}": {"GET": self.get, "DELETE": self.delete},
            PATH + "/{id}/results": {"GET": self.results},
            PATH + "/{id}/cancel": {"POST": self.cancel},
        }

    async def create(self, exchange: Exchange) -> None:
        """POST /v1/messages/batches."""
        requests = await exchange.read(read_requests)
        owner, now = CALLER.get(), time.time()
        given = {name: exchange.header(name.encode("ascii")) for name in PASSED_ON}
        record = Record(
            endpoint="/v1/messages",
            expires_at=int(now) + WINDOW,
            headers={name: value for name, value in given.items() if value is not None},
            total=len(requests),
        )
        batch = StoredBatch(
            id=new_id("msgbatch_", now),
            owner=owner,
            kind=KIND,
            created_at=int(now),
            status="in_progress",
            body=record.kept(),
        )
        places = await exchange.work(partial(run_order, [one.beginning for one in requests]))
        lines = [NewLine(number, places[number], one.line) for number, one in enumerate(requests)]
        await self._store.batches.create(batch, lines)
        await exchange.respond_json(self._shown(exchange, batch))

    async def list(self, exchange: Exchange) -> None:
        """GET /v1/messages/batches, newest first."""
        limit, before, after = _window(exchange.query)
        try:
            found = await self._store.batches.owned(CALLER.get(), KIND, after=after, before=before, limit=limit + 1)
        except NotFoundError as error:
            raise BadRequestError(f"'{error.param}_id' names no batch here.", param=f"{error.param}_id") from None
        page = found[-limit:] if before is not None else found[:limit]
        await exchange.respond_json(
            batch_list([self._shown(exchange, one) for one in page], has_more=len(found) > limit)
        )

    async def get(self, exchange: Exchange) -> None:
        """GET /v1/messages/batches/{id}."""
        await exchange.respond_json(self._shown(exchange, await self._batch(exchange)))

    async def results(self, exchange: Exchange) -> None:
        """GET /v1/messages/batches/{id}/results: a line for each request."""
        batch = await self._batch(exchange)
        if not batch.ended:
            raise NotFoundError("The results of this batch are not there yet: it has not ended.")
        await exchange.start_stream(b"application/x-jsonl")
        piece = bytearray()
        async for line in results(self._store, batch):
            piece += line
            if len(piece) >= PIECE:
                await exchange.send({"type": "http.response.body", "body": bytes(piece), "more_body": True})
                piece.clear()
        await exchange.send({"type": "http.response.body", "body": bytes(piece)})

    async def cancel(self, exchange: Exchange) -> None:
        """POST /v1/messages/batches/{id}/cancel: what runs is left, what has come out is kept."""
        batch = await self._batch(exchange)
        await begin_cancelling(self._store, batch)
        await exchange.respond_json(self._shown(exchange, await self._batch(exchange)))

    async def delete(self, exchange: Exchange) -> None:
        """DELETE /v1/messages/batches/{id}: one that has ended."""
        batch = await self._batch(exchange)
        if not await self._store.batches.delete(batch.owner, batch.id):
            raise BadRequestError("The batch has not ended: cancel it first, and delete it when it has ended.")
        await exchange.respond_json({"id": batch.id, "type": "message_batch_deleted"})

    @property
    def _store(self) -> Store:
        return stored_batches(self._served)

    async def _batch(self, exchange: Exchange) -> StoredBatch:
        found = await named_batch(self._store, exchange, KIND)
        if found is None:
            raise NotFoundError(f"There is no message batch '{exchange.path_params['id'][:64]}'.")
        return found

    def _shown(self, exchange: Exchange, batch: StoredBatch) -> dict[str, Any]:
        url = f"{_origin(exchange)}{PATH}/{batch.id}/results"
        return shown(batch.id, batch.created_at, batch.status, Record.of(batch.body), url)


class _Window(NamedTuple):
    limit: int
    before: str | None
    after: str | None


def _window(query: Mapping[str, str]) -> _Window:
    """Which page is wanted. Raises ``BadRequestError``."""
    limit = limit_of(query, USUAL, MOST)
    before, after = query.get("before_id") or None, query.get("after_id") or None
    if before is not None and after is not None:
        raise BadRequestError("Give 'before_id' or 'after_id', not both.", param="before_id")
    return _Window(limit, before, after)


def _origin(exchange: Exchange) -> str:
    """Under which address the client reached this server, as it or the proxies in between say. It is told to nobody
    else, so there is no harm in believing them."""
    given = (_first(exchange.header(b"x-forwarded-host")), exchange.header(b"host"))
    host = next((one for one in given if one is not None and _HOST.fullmatch(one)), None)
    if host is None:
        host = with_port(*(exchange.scope.get("server") or ("127.0.0.1", 80)))
    scheme = _first(exchange.header(b"x-forwarded-proto"))
    if scheme not in ("http", "https"):
        scheme = exchange.scope.get("scheme", "http")
    return f"{scheme}://{host}{exchange.root}"


def _first(values: str | None) -> str | None:
    """The first of several proxies' words, which is that of the one nearest to the client."""
    return None if values is None else values.partition(",")[0].strip().lower()
