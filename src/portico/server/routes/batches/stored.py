"""Where batches are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.errors import NotFoundError
from portico.server.line.served import Served

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["stored_batches"]


def stored_batches(served: Served) -> Store:
    """The server's store. Raises ``NotFoundError`` where it has none."""
    if served.store is None:
        raise NotFoundError("This server runs no batches (it runs with --store none): start it with --store FILE.")
    return served.store
