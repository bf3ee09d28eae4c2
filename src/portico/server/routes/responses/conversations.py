"""Conversations: what responses are added to, and what clients put there themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from portico.errors import NotFoundError
from portico.protocols.paging import item_list, window
from portico.protocols.responses.items import check_items, kept_items
from portico.protocols.responses.schema import (
    AddItemsRequest,
    CreateConversationRequest,
    UpdateConversationRequest,
)
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.server.routes.answering import UNKNOWN_FIELDS, warn
from portico.store import StoredConversation
from portico.threads import CALLER

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["BODIES", "ConversationHandlers"]

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("/v1/conversations", "POST"): CreateConversationRequest,
    ("/v1/conversations/{id}", "POST"): UpdateConversationRequest,
    ("/v1/conversations/{id}/items", "POST"): AddItemsRequest,
}


class ConversationHandlers:
    """The handlers, over what is stored."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            "/v1/conversations": {"POST": self.create},
            "/v1/conversations/{id}": {"GET": self.get, "POST": self.update, "DELETE": self.delete},
            "/v1/conversations/{id}/items": {"POST": self.add_items, "GET": self.list_items},
            "/v1/conversations/{id}/items/{item}": {"GET": self.get_item, "DELETE": self.delete_item},
        }

    async def create(self, exchange: Exchange) -> None:
        """POST /v1/conversations."""
        request = await exchange.request(CreateConversationRequest)
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        check_items(request.items or [], "items")
        items = kept_items(request.items or [])
        created = await self._store.create_conversation(CALLER.get(), request.metadata or {}, items)
        await exchange.respond_json(_shown(created))

    async def get(self, exchange: Exchange) -> None:
        """GET /v1/conversations/{id}."""
        await exchange.respond_json(_shown(await self._conversation(exchange)))

    async def update(self, exchange: Exchange) -> None:
        """POST /v1/conversations/{id}: its metadata anew."""
        request = await exchange.request(UpdateConversationRequest)
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        id = exchange.path_params["id"]
        renewed = await self._store.update_conversation(CALLER.get(), id, request.metadata or {})
        if renewed is None:
            raise _no_conversation(id)
        await exchange.respond_json(_shown(renewed))

    async def delete(self, exchange: Exchange) -> None:
        """DELETE /v1/conversations/{id}; its responses stay."""
        id = exchange.path_params["id"]
        if not await self._store.delete_conversation(CALLER.get(), id):
            raise _no_conversation(id)
        await exchange.respond_json({"id": id, "object": "conversation.deleted", "deleted": True})

    async def add_items(self, exchange: Exchange) -> None:
        """POST /v1/conversations/{id}/items."""
        request = await exchange.request(AddItemsRequest)
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        check_items(request.items, "items")
        conversation = await self._conversation(exchange)
        items = kept_items(request.items)
        if not await self._store.add_items(CALLER.get(), conversation.id, items):
            raise _no_conversation(conversation.id)
        await exchange.respond_json(item_list(items, has_more=False))

    async def list_items(self, exchange: Exchange) -> None:
        """GET /v1/conversations/{id}/items, newest first."""
        limit, order, after = window(exchange.query)
        conversation = await self._conversation(exchange)
        found = await self._store.items(CALLER.get(), conversation.id, after=after, limit=limit + 1, order=order)
        await exchange.respond_json(item_list([one.item for one in found[:limit]], len(found) > limit))

    async def get_item(self, exchange: Exchange) -> None:
        """GET /v1/conversations/{id}/items/{item}."""
        conversation = await self._conversation(exchange)
        item = exchange.path_params["item"]
        found = await self._store.conversation_item(CALLER.get(), conversation.id, item)
        if found is None:
            raise NotFoundError(f"Item with id '{item[:64]}' not found in this conversation.", param="item_id")
        await exchange.respond_json(found)

    async def delete_item(self, exchange: Exchange) -> None:
        """DELETE /v1/conversations/{id}/items/{item}; the conversation is the answer."""
        conversation = await self._conversation(exchange)
        item = exchange.path_params["item"]
        if not await self._store.delete_item(CALLER.get(), conversation.id, item):
            raise NotFoundError(f"Item with id '{item[:64]}' not found in this conversation.", param="item_id")
        await exchange.respond_json(_shown(conversation))

    @property
    def _store(self) -> Store:
        return self._served.store_for("This server keeps no conversations (it runs with --store none).")

    async def _conversation(self, exchange: Exchange) -> StoredConversation:
        id = exchange.path_params["id"]
        found = await self._store.conversation(CALLER.get(), id)
        if found is None:
            raise _no_conversation(id)
        return found


def _no_conversation(id: str) -> NotFoundError:
    return NotFoundError(f"Conversation with id '{id[:64]}' not found.", param="conversation_id")


def _shown(conversation: StoredConversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": conversation.metadata,
    }
