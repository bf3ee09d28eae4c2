"""What a response follows: the chain behind ``previous_response_id``, or a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from portico.errors import BadRequestError, NotFoundError, PorticoError
from portico.protocols.responses.items import Item, references, thoughts_without_text
from portico.protocols.responses.schema import InputTokensRequest, PromptFields
from portico.store import BrokenChainError, StoredResponse

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["Lane", "Past", "resolved"]

NO_STORE = "This server keeps no responses (it runs with --store none): send the whole conversation as 'input'."


class LockedError(PorticoError):
    """Another response is being added to the conversation."""

    status, type, code = 409, "invalid_request_error", "conversation_locked"


@dataclass
class Lane:
    """One of the lanes of a WebSocket, which remembers its last response: that may be kept nowhere else.

    Any of the ``lanes`` may go on from it.
    """

    lanes: Mapping[str | None, Lane]
    last: StoredResponse | None = None
    before: list[Item] = field(default_factory=list)  # all that came before it
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one response is made at a time

    def find(self, id: str) -> Lane | None:
        """The lane whose last response this is."""
        return next((lane for lane in self.lanes.values() if lane.last is not None and lane.last.id == id), None)

    def forget(self, id: str) -> None:
        """That response is not to be gone on from."""
        lane = self.find(id)
        if lane is not None:
            lane.last, lane.before = None, []


@dataclass
class Past:
    """The items before a request's own, oldest first."""

    items: list[Item] = field(default_factory=list)
    previous_id: str | None = None
    conversation_id: str | None = None

    @classmethod
    async def of(cls, request: PromptFields, store: Store | None, owner: str, lane: Lane | None = None) -> Past:
        """The past that ``request`` names. Raises ``BadRequestError`` or ``NotFoundError`` for one that is not here."""
        if request.previous_response_id is not None:
            return await _chain(request.previous_response_id, store, owner, lane)
        conversation = request.conversation_id if isinstance(request, InputTokensRequest) else None
        if conversation is None:
            return cls()
        if store is None:
            raise BadRequestError(NO_STORE, param="conversation")
        if await store.conversation(owner, conversation) is None:
            raise NotFoundError(f"There is no conversation '{conversation}'.", param="conversation")
        items = [one.item for one in await store.items(owner, conversation)]
        return cls(items, conversation_id=conversation)

    async def lock(self, store: Store | None, owner: str, response_id: str) -> None:
        """Let this response alone append to the conversation, as it was read. Raises ``LockedError``."""
        id = self.conversation_id
        if id is None or store is None:
            return
        if await store.lock_conversation(owner, id, response_id):
            newest = [one.id for one in await store.items(owner, id, order="desc", limit=1)]
            if newest == [item["id"] for item in self.items[-1:]]:
                return
            await store.unlock_conversation(owner, id, response_id)  # another one was added to it meanwhile
        raise LockedError(
            "Another response is being added to this conversation; try again when it is complete.",
            param="conversation",
            retry_after=1,
        )

    async def unlock(self, store: Store | None, owner: str, response_id: str) -> None:
        """This response is done with the conversation."""
        if self.conversation_id is not None and store is not None:
            await store.unlock_conversation(owner, self.conversation_id, response_id)


async def _chain(id: str, store: Store | None, owner: str, lane: Lane | None) -> Past:
    param = "previous_response_id"
    found = lane.find(id) if lane is not None else None
    if found is not None and found.last is not None:
        return Past([*found.before, *_items(found.last)], previous_id=id)
    if store is None and lane is None:
        raise BadRequestError(NO_STORE, param=param)
    try:
        chain = await store.chain(owner, id) if store is not None else []
    except BrokenChainError as error:
        missing = error.id
        raise BadRequestError(
            f"The response '{id}' cannot be continued: '{missing}' before it is not here, or no longer kept."
            if missing != id
            else f"Previous response with id '{id}' not found.",
            param=param,
            code="previous_response_not_found",
        ) from None
    if not chain:
        raise BadRequestError(
            f"Previous response with id '{id}' not found.", param=param, code="previous_response_not_found"
        )
    if chain[-1].status in ("queued", "in_progress"):
        raise BadRequestError(f"The response '{id}' is not complete yet; wait for it.", param=param)
    return Past([item for one in chain for item in _items(one)], previous_id=id)


def _items(response: StoredResponse) -> list[Item]:
    """What a response adds to a conversation."""
    return [*response.input, *continued(response.output)]


def continued(output: list[Item]) -> list[Item]:
    """What of an answer the next turn sees: calls that were cut off have no output to come."""
    cut = ("function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call")
    return [item for item in output if not (item.get("type") in cut and item.get("status") != "completed")]


async def resolved(items: list[Item], past: Past, store: Store | None, owner: str) -> list[Item]:
    """The items with those that they point to in place of pointers. Raises ``NotFoundError``."""
    pointers, thoughts = references(items), thoughts_without_text(items)
    if not pointers and not thoughts:
        return items
    known: Mapping[str, Any] = {item["id"]: item for item in past.items if "id" in item}

    async def kept(id: str) -> Item | None:
        return known.get(id) or (await store.item(owner, id) if store is not None else None)

    found = list(items)
    for index, id in pointers:
        item = await kept(id)
        if item is None:
            param = f"input[{index}].id"
            told = "" if store is not None else " This server keeps none (--store none): set 'store' to false."
            raise NotFoundError(f"Item with id '{id[:64]}' not found.{told}", param=param)
        found[index] = item
    for index, id in thoughts:
        item = await kept(id)
        if item is not None and item.get("type") == "reasoning":
            found[index] = item
    if past.items:  # what is pointed to is there already
        found = [item for index, item in enumerate(found) if not (index in dict(pointers) and item["id"] in known)]
    return found
