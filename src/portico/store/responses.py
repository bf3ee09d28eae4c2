"""Responses and their items, as rows. Every work is told whose rows it may see.

A response that has ended stays as it is: what was told as done is not taken back, by nobody's late word.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, literal, select, update

from portico.errors import StoreError
from portico.store.coding import dumps, key, loads
from portico.store.records import RUNNING, BrokenChainError, StoredResponse
from portico.store.tables import Put, conversation_items, conversations, response_items, responses

__all__ = ["ask_cancel", "cancelled", "chain", "get", "item", "put", "remove", "shown", "worker_of"]

STATE = ("status", "worker", "ended_at", "size", "content", "body")  # what changes while it runs
PUT = Put(
    lambda insert: (new := insert(responses)).on_conflict_do_update(
        index_elements=["id"],
        set_={name: new.excluded[name] for name in STATE},
        where=(responses.c.owner == new.excluded.owner) & responses.c.ended_at.is_(None),
    )
)
RENEW = (
    update(responses)
    .where(responses.c.id == bindparam("key"), responses.c.owner == bindparam("whose"), responses.c.ended_at.is_(None))
    .values({name: bindparam(name) for name in STATE})
)
PUT_ITEMS = Put(lambda insert: insert(response_items).on_conflict_do_nothing())
PUT_BEFORE = select(responses.c.owner, responses.c.status).where(responses.c.id == bindparam("key"))

MINE = (responses.c.id == bindparam("key"), responses.c.owner == bindparam("owner"))
WITHOUT_BODY = [
    responses.c[name] for name in ("id", "owner", "created_at", "status", "previous_id", "conversation_id", "content")
]
GET = select(*WITHOUT_BODY, responses.c.body).where(*MINE)
WORKER = select(responses.c.worker).where(responses.c.id == bindparam("key"))
REMOVE = delete(responses).where(*MINE)

_line = select(*WITHOUT_BODY, literal(1).label("depth")).where(*MINE).cte("line", recursive=True)
_line = _line.union_all(
    select(*WITHOUT_BODY, _line.c.depth + 1).where(
        responses.c.id == _line.c.previous_id,
        responses.c.owner == bindparam("owner"),
        _line.c.depth < bindparam("limit"),
    )
)
CHAIN = select(_line).order_by(_line.c.depth.desc())

ITEM_OF_RESPONSE = (
    select(responses.c.content)
    .join(response_items, response_items.c.response_id == responses.c.id)
    .where(response_items.c.owner == bindparam("owner"), response_items.c.item_id == bindparam("key"))
    .order_by(responses.c.created_at.desc())
    .limit(1)
)
ITEM_OF_CONVERSATION = (
    select(conversation_items.c.content)
    .join(conversations, conversations.c.id == conversation_items.c.conversation_id)
    .where(conversation_items.c.item_id == bindparam("key"), conversations.c.owner == bindparam("owner"))
    .order_by(conversations.c.used_at.desc())
    .limit(1)
)


def put(connection: Connection, worker: str, response: StoredResponse, known: bool) -> bool:
    """Insert or renew it; ``worker`` runs it if it runs. ``known``: it has been put before, so it is not inserted.

    Returns False, without effect, for one that was put so already, and for a known one that was deleted meanwhile.
    Raises ``StoreError`` where it has ended otherwise.
    """
    id = key(response.id)
    row = {"id": id, "owner": response.owner, "created_at": response.created_at, **_state(response, worker)}
    row |= {"previous_id": _key(response.previous_id), "conversation_id": _key(response.conversation_id)}
    if known:
        renewed = {name: row[name] for name in STATE}
        done = connection.execute(RENEW, {"key": id, "whose": response.owner, **renewed}).rowcount
    else:
        done = PUT.run(connection, row)
    if not done:
        found = connection.execute(PUT_BEFORE, {"key": id}).first()
        if found is not None and (found.owner, found.status) != (response.owner, response.status):
            raise StoreError("The response has ended already, and stays as it is.", code="response_ended")
        return False
    ids = {key(item["id"]) for item in (*response.input, *response.output) if isinstance(item.get("id"), str)}
    if ids:
        items = [{"response_id": id, "item_id": item, "owner": response.owner} for item in ids]
        PUT_ITEMS.run(connection, items)
    return True


def get(connection: Connection, owner: str, id: str) -> StoredResponse | None:
    """The response of that id."""
    found = connection.execute(GET, {"key": key(id), "owner": owner}).first()
    return None if found is None else shown(found, loads(found.body))


def worker_of(connection: Connection, id: str) -> str | None:
    """The process that runs it; None when it has ended, or is not there."""
    return connection.scalar(WORKER, {"key": key(id)})


def remove(connection: Connection, owner: str, id: str) -> bool:
    """Delete it with its items and events; whether it was there."""
    return bool(connection.execute(REMOVE, {"key": key(id), "owner": owner}).rowcount)


def chain(connection: Connection, owner: str, id: str, limit: int) -> list[StoredResponse]:
    """It and its ancestors, oldest first and without bodies; of a longer chain the newest ``limit``. Raises
    ``BrokenChainError``."""
    rows = connection.execute(CHAIN, {"key": key(id), "owner": owner, "limit": limit})
    found = [shown(row, {}) for row in rows]
    if not found:
        raise BrokenChainError(id)
    if found[0].previous_id is not None and len(found) < limit:
        raise BrokenChainError(found[0].previous_id)
    return found


def item(connection: Connection, owner: str, id: str) -> dict[str, Any] | None:
    """The item of that id, of a response or a conversation; of several the newest."""
    asked = {"key": key(id), "owner": owner}
    if (content := connection.scalar(ITEM_OF_RESPONSE, asked)) is not None:
        found = loads(content)
        return next((one for one in (*found["output"], *found["input"]) if one.get("id") == id), None)
    content = connection.scalar(ITEM_OF_CONVERSATION, asked)
    return None if content is None else loads(content)


def ask_cancel(connection: Connection, owner: str, id: str) -> bool:
    """Ask the process that runs it to stop it; whether it runs."""
    runs = (responses.c.id == key(id), responses.c.owner == owner, responses.c.ended_at.is_(None))
    return bool(connection.execute(update(responses).where(*runs).values(cancel=True)).rowcount)


def cancelled(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of them that somebody has asked to stop, or has deleted."""
    keys = {key(id): id for id in ids}
    going = select(responses.c.id).where(responses.c.id.in_(keys), responses.c.cancel.is_(False))
    kept = set(connection.scalars(going))
    return {id for found, id in keys.items() if found not in kept}


def _state(response: StoredResponse, worker: str) -> dict[str, Any]:
    """The columns ``STATE``. The body's output is kept once, in the content; its place in the body is marked."""
    runs = response.status in RUNNING
    rest = {name: getattr(response, name) for name in ("model", "background", "input", "output")}
    content = dumps(rest)
    body = dumps({**response.body, "output": None} if "output" in response.body else response.body)
    return {
        "status": response.status,
        "worker": worker if runs else None,
        "ended_at": None if runs else time.time(),
        "size": len(content) + len(body),
        "content": content,
        "body": body,
    }


def shown(row: Any, body: dict[str, Any]) -> StoredResponse:
    """The response in a row of ``GET`` or ``CHAIN``."""
    rest = loads(row.content)
    if "output" in body:
        body["output"] = rest["output"]
    return StoredResponse(
        id=row.id,
        owner=row.owner,
        created_at=row.created_at,
        status=row.status,
        previous_id=row.previous_id,
        conversation_id=row.conversation_id,
        body=body,
        **rest,
    )


def _key(id: str | None) -> str | None:
    return None if id is None else key(id)
