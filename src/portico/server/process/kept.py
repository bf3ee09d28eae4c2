"""The store that the settings name, if any."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from portico import store as stores
from portico.config import Settings
from portico.errors import StoreError

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["has_keys", "kept", "place_of"]

log = logging.getLogger("portico")


def place_of(settings: Settings) -> str | None:
    """Where the store is, as ``open_store`` takes it; None where nothing is kept."""
    where = settings.store.get_secret_value() if settings.store else str(stores.default_path())
    return None if where == "none" else where


def has_keys(settings: Settings) -> bool:
    """Whether the store has API keys. Where there is none yet, or it cannot be read, it has not."""
    where = place_of(settings)
    if where is None:
        return False
    from portico.store.keys import any_keys

    try:
        return stores.open_upkeep(where).do(any_keys)
    except StoreError:
        return False


async def kept(settings: Settings) -> Store | None:
    """Open it. Raises ``StoreError`` where one was asked for; one that nobody asked for may be missing, with a word in
    the log."""
    where = place_of(settings)
    if where is None:
        return None
    retention = stores.Retention(
        settings.store_max_age, settings.store_max_responses, settings.store_max_bytes, settings.usage_max_age
    )
    store = stores.open_store(where, retention=retention)
    try:
        await store.start()
    except StoreError as error:
        if settings.store is not None:
            raise
        log.warning("responses are not kept: %s", error.message)
        return None
    return store
