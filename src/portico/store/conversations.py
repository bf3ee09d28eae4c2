"""Conversations and their items, as rows. An item of a conversation is its own copy: the response that it came from,
or went into, may be deleted, and the other way round."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Select, and_, bindparam, delete, func, insert, or_, select, update

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

IT = and_(conversations.c.id == bindparam("key"), conversations.c.owner == bindparam("whose"))
GET = select(conversations).where(IT)
PUT = insert(conversations)
RENEW = (
    update(conversations)
    .where(IT)
    .values(
        content=bindparam("new"),
        size=conversations.c.size + func.length(bindparam("new")) - func.length(conversations.c.content),
    )
)
REMOVE = delete(conversations).where(IT)
# Its row is written first: who else appends waits there, so that positions are given out once.
GROW = (
    update(conversations)
    .where(IT)
    .values(
        count=conversations.c.count + bindparam("more"),
        size=conversations.c.size + bindparam("bytes"),
        used_at=bindparam("now"),
    )
    .returning(conversations.c.count)
)
SHRINK = update(conversations).where(IT).values(size=conversations.c.size - bindparam("bytes"))

LOCK = (
    update(conversations)
    .where(IT, or_(conversations.c.turn.is_(None), conversations.c.turn == bindparam("taker")))
    .values(turn=bindparam("taker"), worker=bindparam("by"), used_at=bindparam("now"))
)
HOLDER = select(conversations.c.worker).where(IT)
UNLOCK = update(conversations).where(IT, conversations.c.turn == bindparam("taker")).values(turn=None, worker=None)

POSITION = conversation_items.c.position
OF_IT = and_(conversations.c.id == conversation_items.c.conversation_id, IT)
ITEM = conversation_items.c.item_id == bindparam("item")
PUT_ITEMS = insert(conversation_items)
ITEMS = select(POSITION, conversation_items.c.content).join(conversations, OF_IT)
GET_ITEM = ITEMS.where(ITEM).order_by(POSITION.desc()).limit(1)
REMOVE_ITEM = (
    delete(conversation_items)
    .where(conversation_items.c.conversation_id.in_(select(conversations.c.id).where(IT)), ITEM)
    .returning(func.length(conversation_items.c.content))
)


def _page(order: Order) -> tuple[Select[Any], Select[Any]]:
    """Where behind an item a page begins, and the page. An id may be in a conversation twice: its last place counts,
    so that paging comes to an end."""
    last = func.max(POSITION) if order == "asc" else func.min(POSITION)
    behind = bindparam("at") < POSITION if order == "asc" else bindparam("at") > POSITION
    page = ITEMS.where(behind).order_by(POSITION if order == "asc" else POSITION.desc()).limit(bindparam("limit"))
    return select(last).join(conversations, OF_IT).where(ITEM), page


PAGES = {"asc": _page("asc"), "desc": _page("desc")}
BEFORE_ALL = {"asc": -1, "desc": 2**62}
NO_LIMIT = 2**62


def create(
    connection: Connection, owner: str, metadata: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
) -> StoredConversation:
    """A new conversation with these items, which have ids."""
    made = StoredConversation(
        id=f"conv_{secrets.token_hex(24)}", owner=owner, created_at=int(time.time()), metadata=dict(metadata)
    )
    content = dumps(made.metadata)
    row = {"id": made.id, "owner": owner, "created_at": made.created_at, "used_at": made.created_at, "count": 0}
    connection.execute(PUT, {**row, "size": len(content), "content": content})
    add(connection, owner, made.id, items)
    return made


def get(connection: Connection, owner: str, id: str) -> StoredConversation | None:
    """The conversation of that id."""
    row = connection.execute(GET, _it(owner, id)).first()
    if row is None:
        return None
    return StoredConversation(id=row.id, owner=row.owner, created_at=row.created_at, metadata=loads(row.content))


def renew(connection: Connection, owner: str, id: str, metadata: Mapping[str, Any]) -> StoredConversation | None:
    """The conversation with this metadata in place of its own."""
    connection.execute(RENEW, {**_it(owner, id), "new": dumps(metadata)})
    return get(connection, owner, id)


def remove(connection: Connection, owner: str, id: str) -> bool:
    """Delete it with its items; whether it was there."""
    return bool(connection.execute(REMOVE, _it(owner, id)).rowcount)


def add(connection: Connection, owner: str, id: str, items: Sequence[Mapping[str, Any]]) -> bool:
    """Append items, which have ids; whether the conversation was there."""
    contents = [dumps(item) for item in items]
    grown = {"more": len(items), "bytes": sum(map(len, contents)), "now": int(time.time())}
    count = connection.scalar(GROW, {**_it(owner, id), **grown})
    if count is None:
        return False
    rows = [
        {"conversation_id": key(id), "position": position, "item_id": key(item["id"]), "content": content}
        for position, (item, content) in enumerate(zip(items, contents, strict=True), count - len(items))
    ]
    if rows:
        connection.execute(PUT_ITEMS, rows)
    return True


def items(
    connection: Connection, owner: str, id: str, *, after: str | None, limit: int | None, order: Order
) -> list[StoredItem]:
    """Its items in that order, those behind the item ``after``. Raises ``NotFoundError`` where that is none of it."""
    begin, page = PAGES[order]
    at: int | None = BEFORE_ALL[order]
    if after is not None:
        at = connection.scalar(begin, {**_it(owner, id), "item": key(after)})
        if at is None:
            raise NotFoundError("The conversation has no such item.", param="after")
    rows = connection.execute(page, {**_it(owner, id), "at": at, "limit": NO_LIMIT if limit is None else limit})
    contents = [(row.position, loads(row.content)) for row in rows]
    return [StoredItem(item["id"], position, item) for position, item in contents]


def item(connection: Connection, owner: str, id: str, item_id: str) -> dict[str, Any] | None:
    """Its item of that id."""
    row = connection.execute(GET_ITEM, {**_it(owner, id), "item": key(item_id)}).first()
    return None if row is None else loads(row.content)


def remove_item(connection: Connection, owner: str, id: str, item_id: str) -> bool:
    """Take the item of that id out; whether it was there."""
    sizes = list(connection.scalars(REMOVE_ITEM, {**_it(owner, id), "item": key(item_id)}))
    if sizes:
        connection.execute(SHRINK, {**_it(owner, id), "bytes": sum(sizes)})
    return bool(sizes)


def lock(connection: Connection, worker: str, owner: str, id: str, turn: str) -> bool:
    """Let the response ``turn`` alone append to it; False where another one has it, or it is not there."""
    taken = {"taker": key(turn), "by": worker, "now": int(time.time())}
    return bool(connection.execute(LOCK, {**_it(owner, id), **taken}).rowcount)


def holder(connection: Connection, owner: str, id: str) -> str | None:
    """The process that has it locked."""
    return connection.scalar(HOLDER, _it(owner, id))


def unlock(connection: Connection, owner: str, id: str, turn: str) -> None:
    """The response ``turn`` is done with it."""
    connection.execute(UNLOCK, {**_it(owner, id), "taker": key(turn)})


def _it(owner: str, id: str) -> dict[str, Any]:
    return {"key": key(id), "whose": owner}
