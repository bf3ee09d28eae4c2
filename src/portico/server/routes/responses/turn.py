"""One response and what it is added to: a chain, a conversation, the memory of a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.protocols.responses.items import Item
from portico.protocols.responses.stream import Answer
from portico.server.routes.responses.past import Lane, Past
from portico.store import StoredResponse

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["Turn"]


class Turn:
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
        good = stored.status in ("completed", "incomplete")
        if self._lane is not None and good:
            self._lane.last, self._lane.before = stored, self._past.items
        if self._store is not None:
            new = [*self._own, *stored.output] if good and stored.conversation_id is not None else []
            await self._store.finish_turn(stored, stored.conversation_id, new)

    async def end(self, answer: Answer) -> None:
        """However it went: let go of what it was added to."""
        await self._past.unlock(self._store, self.owner, answer.response["id"])
