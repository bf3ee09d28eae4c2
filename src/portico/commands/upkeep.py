"""The store of commands that work on it by hand: the one that a server with the same settings would use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.config import Settings
from portico.errors import StoreError

if TYPE_CHECKING:
    from portico.store import Upkeep

__all__ = ["upkeep_of"]


def upkeep_of(settings: Settings) -> Upkeep:
    """Raises ``StoreError`` where the settings name none."""
    from portico.server.process.kept import place_of  # a quarter of a second, which --help need not wait for
    from portico.store import open_upkeep

    where = place_of(settings)
    if where is None:
        raise StoreError("Nothing is kept: the store is 'none'. Name one with --store.", param="store")
    return open_upkeep(where)
