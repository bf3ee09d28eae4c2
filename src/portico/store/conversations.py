"""Conversations and their items, as rows. An item of a conversation is its own copy: the response that it came from,
or went into, may be deleted, and the other way round."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from portico.errors import NotFoundError
from portico.store.coding import dumps, key, loads
from portico.store.records import StoredConversation, StoredItem
from portico.store.tables import conversation_items, conversations

__all__ = [
    "add",
    "create",
    "get",
    "holder",
    "item",
    "items",
    "lock",
    "remove",
    "remove_item",
    "renew",
    "unlock",
]

Order = Literal["asc", "desc"]


def create(
    connection: Connection, owner: str, metadata: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
) -> StoredConversation:
    """A new conversation with these items, which have ids."""
    made = StoredConversation(
        id=f"conv_{secrets.token_hex(24)}", owner=owner, created_at=int(time.time()), metadata=dict(metadata)
    )
    content = dumps(made.metadata)
    row = {
        "id": made.id,
        "owner": owner,
        "created_at": made.created_at,
        "used_at": made.created_at,
        "count": 0,
        "size": len(content),
        "content": content,
    }
    connection.execute(insert(conversations), row)
    add(connection, owner, made.id, items)
    return made


def get(connection: Connection, owner: str, id: str) -> StoredConversation | None:
    row = connection.execute(select(conversations).where(_mine(owner, id))).first()
    if row is None:
        return None
    return StoredConversation(id=row.id, owner=row.owner, created_at=row.created_at, metadata=loads(row.content))


def renew(connection: Connection, owner: str, id: str, metadata: Mapping[str, Any]) -> StoredConversation | None:
    """The conversation with this metadata in place of its own."""
    content = dumps(metadata)
    grown = conversations.c.size + len(content) - func.length(conversations.c.content)
    connection.execute(update(conversations).where(_mine(owner, id)).values(content=content, size=grown))
    return get(connection, owner, id)


def remove(connection: Connection, owner: str, id: str) -> bool:
    """Delete it with its items; whether it was there."""
    return bool(connection.execute(delete(conversations).where(_mine(owner, id))).rowcount)


def add(connection: Connection, owner: str, id: str, items: Sequence[Mapping[str, Any]]) -> bool:
    """Append items, which have ids; whether the conversation was there."""
    contents = [dumps(item) for item in items]
    # Its row is written first: who else appends waits there, so that positions are given out once.
    grown = (
        update(conversations)
        .where(_mine(owner, id))
        .values(
            count=conversations.c.count + len(items),
            size=conversations.c.size + sum(map(len, contents)),
            used_at=int(time.time()),
        )
        .returning(conversations.c.count)
    )
    count = connection.scalar(grown)
    if count is None:
        return False
    rows = [
        {"conversation_id": key(id), "position": position, "item_id": key(item["id"]), "content": content}
        for position, (item, content) in enumerate(zip(items, contents, strict=True), count - len(items))
    ]
    if rows:
        connection.execute(insert(conversation_items), rows)
    return True


def items(
    connection: Connection, owner: str, id: str, *, after: str | None, limit: int | None, order: Order
) -> list[StoredItem]:
    """Its items in that order, those behind the item ``after``. Raises ``NotFoundError`` where that is none of it."""
    position = conversation_items.c.position
    mine = and_(conversations.c.id == conversation_items.c.conversation_id, _mine(owner, id))
    found = select(position, conversation_items.c.content).join(conversations, mine)
    if after is not None:
        edge = func.max(position) if order == "asc" else func.min(position)  # an id may be in it twice
        at = connection.scalar(select(edge).join(conversations, mine).where(conversation_items.c.item_id == key(after)))
        if at is None:
            raise NotFoundError("The conversation has no such item.", param="after")
        found = found.where(position > at if order == "asc" else position < at)
    found = found.order_by(position if order == "asc" else position.desc()).limit(limit)
    contents = [(row.position, loads(row.content)) for row in connection.execute(found)]
    return [StoredItem(item["id"], position, item) for position, item in contents]


def item(connection: Connection, owner: str, id: str, item_id: str) -> dict[str, Any] | None:
    """Its item of that id."""
    mine = and_(conversations.c.id == conversation_items.c.conversation_id, _mine(owner, id))
    found = (
        select(conversation_items.c.content)
        .join(conversations, mine)
        .where(conversation_items.c.item_id == key(item_id))
        .order_by(conversation_items.c.position.desc())
        .limit(1)
    )
    content = connection.scalar(found)
    return None if content is None else loads(content)


def remove_item(connection: Connection, owner: str, id: str, item_id: str) -> bool:
    """Take the item of that id out; whether it was there."""
    mine = select(conversations.c.id).where(_mine(owner, id))
    taken = (
        delete(conversation_items)
        .where(conversation_items.c.conversation_id.in_(mine), conversation_items.c.item_id == key(item_id))
        .returning(func.length(conversation_items.c.content))
    )
    sizes = list(connection.scalars(taken))
    if sizes:
        smaller = update(conversations).where(_mine(owner, id))
        connection.execute(smaller.values(size=conversations.c.size - sum(sizes)))
    return bool(sizes)


def lock(connection: Connection, worker: str, owner: str, id: str, turn: str) -> bool:
    """Let the response ``turn`` alone append to it; False where another one has it, or it is not there."""
    free = or_(conversations.c.turn.is_(None), conversations.c.turn == key(turn))
    taken = update(conversations).where(_mine(owner, id), free)
    return bool(connection.execute(taken.values(turn=key(turn), worker=worker, used_at=int(time.time()))).rowcount)


def holder(connection: Connection, owner: str, id: str) -> str | None:
    """The process that has it locked."""
    return connection.scalar(select(conversations.c.worker).where(_mine(owner, id)))


def unlock(connection: Connection, owner: str, id: str, turn: str) -> None:
    """The response ``turn`` is done with it."""
    mine = update(conversations).where(_mine(owner, id), conversations.c.turn == key(turn))
    connection.execute(mine.values(turn=None, worker=None))


def _mine(owner: str, id: str) -> Any:
    return and_(conversations.c.id == key(id), conversations.c.owner == owner)
