"""API keys. A key that was revoked stays, so that nobody else gets its name and with it what it owns."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection, insert, select, update

from portico.errors import NotFoundError
from portico.keys import Key
from portico.store.tables import keys

__all__ = ["add", "all_keys", "any_keys", "change", "contents"]

CONTENTS = select(keys.c.content).order_by(keys.c.name)


def contents(connection: Connection) -> list[bytes]:
    """All keys as they are kept; equal as long as nothing changes."""
    return [row.content for row in connection.execute(CONTENTS)]


def all_keys(connection: Connection) -> list[Key]:
    """All keys, those that were revoked too, by name."""
    return [msgspec.json.decode(content, type=Key) for content in contents(connection)]


def any_keys(connection: Connection) -> bool:
    """Whether there is any, be it revoked."""
    return connection.execute(CONTENTS.limit(1)).first() is not None


def add(connection: Connection, key: Key) -> str | None:
    """Keep a new key. The name that stands in its way, its own or that of the key with the same secret, if one does."""
    rows = select(keys.c.name).where((keys.c.name == key.name) | (keys.c.hash == key.hash))
    taken = connection.scalar(rows)
    if taken is None:
        connection.execute(insert(keys).values(name=key.name, hash=key.hash, content=msgspec.json.encode(key)))
    return taken


def change(connection: Connection, name: str, changed: Callable[[Key], Key]) -> Key:
    """Keep what ``changed`` makes of the key of that name, and return it. Raises ``NotFoundError``, and what
    ``changed`` raises."""
    content = connection.scalar(select(keys.c.content).where(keys.c.name == name).with_for_update())
    if content is None:
        raise NotFoundError(f"There is no key '{name[:64]}'; 'portico keys list' shows those that there are.")
    key = changed(msgspec.json.decode(content, type=Key))
    kept = {"hash": key.hash, "content": msgspec.json.encode(key)}
    connection.execute(update(keys).where(keys.c.name == name).values(kept))
    return key
