"""What was used is written into the store now and then: ``portico usage`` reads it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portico.errors import StoreError
from portico.keys.usage import Usage
from portico.server.process.recurring import recurring

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["Accounting"]

EVERY: Final = 5.0  # seconds; what a process that is killed counted in the last of them is lost


class Accounting:
    """Writes what ``usage`` counts."""

    def __init__(self, store: Store, usage: Usage) -> None:
        self._store = store
        self._usage = usage

    async def write(self) -> None:
        """Once; what cannot be written is written later."""
        if sums := self._usage.take():
            try:
                await self._store.put_usage(sums)
            except StoreError:
                self._usage.back(sums)  # it is logged there

    async def keep_writing(self) -> None:
        """Until cancelled."""
        await recurring(EVERY, self.write)
