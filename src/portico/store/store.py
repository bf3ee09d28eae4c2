"""The store as the server sees it. Every call takes the owner of what is asked for: to others it is not there.

What a call was to write is committed when it returns. All raise ``StoreError`` when the database cannot be used; that
passes when the database is back, and nothing needs to be started again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection

from portico.errors import StoreError
from portico.keys.usage import Used
from portico.store import accounts, conversations, keys, leases, responses, streams, usage
from portico.store.batches import Batches
from portico.store.database import Database
from portico.store.faults import spoken
from portico.store.files import Files
from portico.store.migrating import create, migrate
from portico.store.records import RUNNING, StoredConversation, StoredItem, StoredResponse
from portico.store.retention import Retention, sweep

__all__ = ["Store"]

log = logging.getLogger("portico")

SWEEP: Final = 12  # beats between two looks at what is to be kept no longer
BREATH: Final = 0.1  # seconds between two pieces of a sweep


class Store:
    """Responses, conversations and events, ``files`` and ``batches`` in one database, which other processes use too."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self.database = database
        self.retention = retention
        self._me = leases.Identity.own(secrets.token_hex(8))
        self.files = Files(database, self._me.id)
        self.batches = Batches(database, self._me.id)
        self._running: set[str] = set()  # what this process has put and not ended
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make or renew the tables, end what dead processes left, and give signs of life from now on. Raises
        ``StoreError``."""
        if self._keeper is None:
            await asyncio.get_running_loop().run_in_executor(None, self._open)
            self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Give up what this process runs, and every connection."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        self._keeper = None
        try:
            await self.database.write(leases.leave, self._me)
        except StoreError:
            pass  # it is logged, and who starts next takes this process for dead
        self.database.close()

    # -- responses ----------------------------------------------------------------------------------------------------

    async def put_response(self, response: StoredResponse) -> None:
        """Insert or renew a response. One that has ended stays as it is (``StoreError`` if it ended otherwise); one
        that was deleted while it ran stays deleted."""
        await self.finish_turn(response, None, ())

    async def finish_turn(
        self, response: StoredResponse, conversation_id: str | None, items: Sequence[Mapping[str, Any]]
    ) -> None:
        """As ``put_response``, and in the same transaction append the items to the conversation, if it is still
        there, and unlock it."""
        known = response.id in self._running
        await self.database.write(_finish, self._me.id, response, known, conversation_id, items)
        if response.status in RUNNING:
            self._running.add(response.id)
        else:
            self._running.discard(response.id)

    async def response(self, owner: str, id: str) -> StoredResponse | None:
        """The response of that id."""
        found = await self.database.read(responses.get, owner, id)
        if found is not None and found.status in RUNNING and id not in self._running:
            worker = await self.database.read(responses.worker_of, id)
            if worker is not None and await self._is_lost(worker):
                return await self.database.read(responses.get, owner, id)
        return found

    async def delete_response(self, owner: str, id: str) -> bool:
        """Delete it with its items and events; whether it was there. Whoever runs it finds it among ``cancels``."""
        return await self.database.write(responses.remove, owner, id)

    async def chain(self, owner: str, id: str, limit: int = 10_000) -> list[StoredResponse]:
        """The response and its ancestors, oldest first, without their bodies; of a longer chain the newest ``limit``.
        Raises ``BrokenChainError`` for one that is not kept."""
        return await self.database.read(responses.chain, owner, id, limit)

    async def item(self, owner: str, id: str) -> dict[str, Any] | None:
        """Any item of that id, of a response or a conversation; of several the newest."""
        return await self.database.read(responses.item, owner, id)

    async def ask_cancel(self, owner: str, id: str) -> bool:
        """Ask whichever process runs the response to stop it; whether it runs."""
        return await self.database.write(responses.ask_cancel, owner, id)

    async def cancels(self, ids: Sequence[str]) -> set[str]:
        """Those of these running responses that somebody has asked to stop, or has deleted."""
        return await self.database.read(responses.cancelled, ids) if ids else set()

    async def add_events(self, response_id: str, first: int, events: Sequence[bytes]) -> None:
        """Append events of a response, numbered from ``first``; those of a deleted response are let go."""
        await self.database.write(streams.add, response_id, first, events)

    async def events(self, owner: str, response_id: str, after: int) -> list[tuple[int, bytes]]:
        """Its events with greater numbers than ``after``, in order. They are kept for some minutes after its end."""
        return await self.database.read(streams.after, owner, response_id, after)

    # -- conversations ------------------------------------------------------------------------------------------------

    async def create_conversation(
        self, owner: str, metadata: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
    ) -> StoredConversation:
        """A new conversation with these items, which have ids."""
        return await self.database.write(conversations.create, owner, metadata, items)

    async def conversation(self, owner: str, id: str) -> StoredConversation | None:
        """The conversation of that id."""
        return await self.database.read(conversations.get, owner, id)

    async def update_conversation(self, owner: str, id: str, metadata: Mapping[str, Any]) -> StoredConversation | None:
        """The conversation with this metadata in place of its own."""
        return await self.database.write(conversations.renew, owner, id, metadata)

    async def delete_conversation(self, owner: str, id: str) -> bool:
        """Delete it with its items; whether it was there."""
        return await self.database.write(conversations.remove, owner, id)

    async def add_items(self, owner: str, conversation_id: str, items: Sequence[Mapping[str, Any]]) -> bool:
        """Append items, which have ids; whether the conversation was there."""
        return await self.database.write(conversations.add, owner, conversation_id, items)

    async def items(
        self,
        owner: str,
        conversation_id: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] = "asc",
    ) -> list[StoredItem]:
        """Its items in that order, those behind the item ``after``. Raises ``NotFoundError`` where it is none of
        them."""
        return await self.database.read(
            conversations.items, owner, conversation_id, after=after, limit=limit, order=order
        )

    async def conversation_item(self, owner: str, conversation_id: str, item_id: str) -> dict[str, Any] | None:
        """Its item of that id."""
        return await self.database.read(conversations.item, owner, conversation_id, item_id)

    async def delete_item(self, owner: str, conversation_id: str, item_id: str) -> bool:
        """Take the item of that id out of it; whether it was there."""
        return await self.database.write(conversations.remove_item, owner, conversation_id, item_id)

    async def lock_conversation(self, owner: str, id: str, response_id: str) -> bool:
        """Let that response alone append to it; False where another has it. The lock of a dead process is void."""
        while not await self.database.write(conversations.lock, self._me.id, owner, id, response_id):
            worker = await self.database.read(conversations.holder, owner, id)
            if worker is None or not await self._is_lost(worker):
                return False
        return True

    async def unlock_conversation(self, owner: str, id: str, response_id: str) -> None:
        """That response is done with it."""
        await self.database.write(conversations.unlock, owner, id, response_id)

    # -- API keys -----------------------------------------------------------------------------------------------------

    async def keys(self) -> list[bytes]:
        """All API keys, as they are kept (``store.keys``): equal as long as nothing has changed."""
        return await self.database.read(keys.contents)

    async def put_usage(self, sums: Sequence[Used]) -> None:
        """What this process has counted, of whatever has changed."""
        await self.database.write(usage.put, self._me.id, sums)

    async def settle(self, server: str, told: Mapping[str, bytes], since: float) -> tuple[float, list[accounts.Heard]]:
        """See ``store.accounts``."""
        return await (self.database.write if told else self.database.read)(accounts.settle, server, told, since)

    # -- this process among others ------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            if isinstance(self.database.where, Path):
                create(self.database.where, self.database.patience)
            self.database.now(migrate)
            self.database.now(self._enter)
        except (StoreError, OSError, sqlite3.Error) as error:
            cause = error.__cause__ if isinstance(error, StoreError) else error
            if not isinstance(cause, Exception):
                raise
            raise StoreError(
                f"The store {self.database.shown} cannot be used: {spoken(cause)}. Name another with --store, or none.",
                param="store",
            ) from None

    def _enter(self, connection: Connection) -> None:
        leases.beat(connection, self._me)
        leases.recover(connection, self._me)

    async def _is_lost(self, worker: str) -> bool:
        """Whether that process has died; what it ran is ended then."""
        lost = await self.database.read(leases.is_lost, self._me, worker)
        if lost:
            await self.database.write(leases.recover, self._me)
        return lost

    async def _keep(self) -> None:
        """Signs of life, and now and then a look at who has died and at what is to be kept no longer."""
        beats = 0
        while True:
            try:
                await self.database.write(self._enter)
                if beats % SWEEP == 0:
                    await self._sweep()
            except StoreError:
                pass  # it is logged, and tried again
            except Exception:
                log.exception("the store is not kept in order")
            beats += 1
            await asyncio.sleep(leases.BEAT)

    async def _sweep(self) -> None:
        """Delete what is to be kept no longer; of several processes one does."""
        if await self.database.read(leases.is_first, self._me):
            while await self.database.write(sweep, self.retention):  # noqa: ASYNC110  (it is no waiting for something)
                await asyncio.sleep(BREATH)


def _finish(
    connection: Connection,
    worker: str,
    response: StoredResponse,
    known: bool,
    conversation_id: str | None,
    items: Sequence[Mapping[str, Any]],
) -> None:
    kept = responses.put(connection, worker, response, known)
    if conversation_id is not None:
        if kept:
            conversations.add(connection, response.owner, conversation_id, items)
        conversations.unlock(connection, response.owner, conversation_id, response.id)
