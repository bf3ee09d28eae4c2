"""What outlives a process: responses and conversations, files and batches. The one place with persistence.

``store.py`` is the interface; one file for each kind of row has the SQL of it; ``database.py`` is how any of it runs.
"""

from __future__ import annotations

from portico.errors import StoreError
from portico.store.opening import default_path, open_store, open_upkeep
from portico.store.records import (
    BrokenChainError,
    StoredBatch,
    StoredConversation,
    StoredFile,
    StoredItem,
    StoredLine,
    StoredResponse,
)
from portico.store.retention import Retention
from portico.store.store import Store
from portico.store.upkeep import Info, Upkeep

__all__ = [
    "BrokenChainError",
    "Info",
    "Retention",
    "Store",
    "StoreError",
    "StoredBatch",
    "StoredConversation",
    "StoredFile",
    "StoredItem",
    "StoredLine",
    "StoredResponse",
    "Upkeep",
    "default_path",
    "open_store",
    "open_upkeep",
]
