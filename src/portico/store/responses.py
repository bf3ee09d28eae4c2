"""Responses and their items, as rows. Every work is told whose rows it may see.

A response that has ended stays as it is: what was told as done is not taken back, by nobody's late word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, literal, select, update

from portico.errors import StoreError
from portico.store.coding import dumps, key, loads
from portico.store.records import RUNNING, BrokenChainError, StoredResponse
from portico.store.tables import conversation_items, conversations, insert, now, response_items, responses

__all__ = ["ask_cancel", "cancelled", "chain", "get", "item", "put", "remove", "worker_of"]

SHOWN = (
    responses.c.id,
    responses.c.owner,
    responses.c.created_at,
    responses.c.status,
    responses.c.previous_id,
    responses.c.conversation_id,
    responses.c.content,
)


def put(connection: Connection, worker: str, response: StoredResponse, known: bool) -> bool:
    """Insert or renew it; ``worker`` runs it if it runs. ``known``: it has been put before, so it is not inserted.

    Returns False, without effect, for one that was put so already, and for a known one that was deleted meanwhile.
    Raises ``StoreError`` where it has ended otherwise.
    """
    id = key(response.id)
    runs = response.status in RUNNING
    content = _content(response)
    state = {
        "status": response.status,
        "worker": worker if runs else None,
        "ended_at": None if runs else now(),
        "content": content,
        "size": len(content),
    }
    mine = (responses.c.owner == response.owner, responses.c.ended_at.is_(None))
    if known:
        done = connection.execute(update(responses).where(responses.c.id == id, *mine).values(state)).rowcount
    else:
        row = {
            "id": id,
            "owner": response.owner,
            "created_at": response.created_at,
            "previous_id": _key(response.previous_id),
            "conversation_id": _key(response.conversation_id),
        }
        upsert = insert(connection, responses).values(row | state)
        upsert = upsert.on_conflict_do_update(index_elements=["id"], set_=state, where=mine[0] & mine[1])
        done = connection.execute(upsert, execution_options={"preserve_rowcount": True}).rowcount
    if not done:
        found = connection.execute(select(responses.c.owner, responses.c.status).where(responses.c.id == id)).first()
        if found is not None and (found.owner, found.status) != (response.owner, response.status):
            raise StoreError("The response has ended already, and stays as it is.", code="response_ended")
        return False
    ids = {key(item["id"]) for item in (*response.input, *response.output) if isinstance(item.get("id"), str)}
    if ids:
        rows = [{"response_id": id, "item_id": item, "owner": response.owner} for item in ids]
        connection.execute(insert(connection, response_items).on_conflict_do_nothing(), rows)
    return True


def get(connection: Connection, owner: str, id: str) -> StoredResponse | None:
    found = connection.execute(select(*SHOWN).where(responses.c.id == key(id), responses.c.owner == owner)).first()
    return None if found is None else _shown(found)


def worker_of(connection: Connection, id: str) -> str | None:
    """The process that runs it; None when it has ended, or is not there."""
    return connection.scalar(select(responses.c.worker).where(responses.c.id == key(id)))


def remove(connection: Connection, owner: str, id: str) -> bool:
    """Delete it with its items and events; whether it was there."""
    return bool(
        connection.execute(delete(responses).where(responses.c.id == key(id), responses.c.owner == owner)).rowcount
    )


def chain(connection: Connection, owner: str, id: str, limit: int) -> list[StoredResponse]:
    """It and its ancestors, oldest first; of a longer chain the newest ``limit``. Raises ``BrokenChainError``."""
    mine = responses.c.owner == owner
    first = select(*SHOWN, literal(1).label("depth")).where(responses.c.id == key(id), mine)
    line = first.cte("line", recursive=True)
    line = line.union_all(
        select(*SHOWN, line.c.depth + 1).where(responses.c.id == line.c.previous_id, mine, line.c.depth < limit)
    )
    found = [_shown(row) for row in connection.execute(select(line).order_by(line.c.depth.desc()))]
    if not found:
        raise BrokenChainError(id)
    if found[0].previous_id is not None and len(found) < limit:
        raise BrokenChainError(found[0].previous_id)
    return found


def item(connection: Connection, owner: str, id: str) -> dict[str, Any] | None:
    """The item of that id, of a response or a conversation; of several the newest."""
    of_response = (
        select(responses.c.content)
        .join(response_items, response_items.c.response_id == responses.c.id)
        .where(response_items.c.owner == owner, response_items.c.item_id == key(id))
        .order_by(responses.c.created_at.desc())
        .limit(1)
    )
    if (content := connection.scalar(of_response)) is not None:
        found = loads(content)
        return next((one for one in (*found["output"], *found["input"]) if one.get("id") == id), None)
    of_conversation = (
        select(conversation_items.c.content)
        .join(conversations, conversations.c.id == conversation_items.c.conversation_id)
        .where(conversation_items.c.item_id == key(id), conversations.c.owner == owner)
        .order_by(conversations.c.used_at.desc())
        .limit(1)
    )
    content = connection.scalar(of_conversation)
    return None if content is None else loads(content)


def ask_cancel(connection: Connection, owner: str, id: str) -> bool:
    """Ask the process that runs it to stop it; whether it runs."""
    asked = update(responses).where(
        responses.c.id == key(id), responses.c.owner == owner, responses.c.ended_at.is_(None)
    )
    return bool(connection.execute(asked.values(cancel=True)).rowcount)


def cancelled(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of them that somebody has asked to stop, or has deleted."""
    keys = {key(id): id for id in ids}
    going = set(
        connection.scalars(select(responses.c.id).where(responses.c.id.in_(keys), responses.c.cancel.is_(False)))
    )
    return {id for found, id in keys.items() if found not in going}


def _content(response: StoredResponse) -> bytes:
    """What has no column. The body's output is kept once; its place in the body is marked."""
    body = response.body
    return dumps(
        {
            "model": response.model,
            "background": response.background,
            "input": response.input,
            "output": response.output,
            "body": {**body, "output": None} if "output" in body else body,
        }
    )


def _shown(row: Any) -> StoredResponse:
    content = loads(row.content)
    if "output" in content["body"]:
        content["body"]["output"] = content["output"]
    return StoredResponse(
        id=row.id,
        owner=row.owner,
        created_at=row.created_at,
        status=row.status,
        previous_id=row.previous_id,
        conversation_id=row.conversation_id,
        **content,
    )


def _key(id: str | None) -> str | None:
    return None if id is None else key(id)
