"""What outlives a process: responses and conversations, files and batches. The one place with persistence.

``store.py`` is the interface; one file for each kind of row has the SQL of it; ``database.py`` is how any of it runs.
What speaks to a database takes a second to import, so that comes when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from portico.errors import StoreError
from portico.store.records import (
    BrokenChainError,
    LineFailures,
    NewLine,
    NewResult,
    StoredBatch,
    StoredConversation,
    StoredFile,
    StoredItem,
    StoredLine,
    StoredResponse,
)

if TYPE_CHECKING:
    from portico.store.opening import default_path, open_store, open_upkeep
    from portico.store.retention import Retention
    from portico.store.store import Store
    from portico.store.upkeep import Info, Upkeep

__all__ = [
    "BrokenChainError",
    "Info",
    "LineFailures",
    "NewLine",
    "NewResult",
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

_LATER = {
    **dict.fromkeys(("default_path", "open_store", "open_upkeep"), "opening"),
    **dict.fromkeys(("Info", "Upkeep"), "upkeep"),
    "Retention": "retention",
    "Store": "store",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
