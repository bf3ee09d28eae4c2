"""The store that the settings name, if any."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from portico import store as stores
from portico.config import Settings
from portico.errors import StoreError

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["has_keys", "kept"]

log = logging.getLogger("portico")


def has_keys(settings: Settings) -> bool:
    """Whether the store has API keys. Where there is none yet, or it cannot be read, it has not."""
    where = settings.store.get_secret_value() if settings.store is not None else str(stores.default_path())
    if where == "none":
        return False
    from portico.store.keys import any_keys

    try:
        return stores.open_upkeep(where).do(any_keys)
    except StoreError:
        return False


async def kept(settings: Settings) -> Store | None:
    """Open it. Raises ``StoreError`` where one was asked for; one that nobody asked for may be missing, with a word in
    the log."""
    where = settings.store.get_secret_value() if settings.store is not None else None
    if where == "none":
        return None
    retention = stores.Retention(settings.store_max_age, settings.store_max_responses, settings.store_max_bytes)
    store = stores.open_store(where or str(stores.default_path()), retention=retention)
    try:
        await store.start()
    except StoreError as error:
        if where is not None:
            raise
        log.warning("responses are not kept: %s", error.message)
        return None
    return store
