"""The API keys that lie in the store: whoever changes them there is heeded within seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from portico.keys import Key
from portico.server.http.auth import Keys
from portico.server.process.recurring import recurring

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["KeyWatch"]

LOOK: Final = 2.0  # seconds between two looks


class KeyWatch:
    """Looks into the store now and then, and tells ``keys``."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._seen: list[bytes] = []

    async def look(self) -> None:
        """Heed what has changed. Raises ``StoreError``. A store without keys that had some is not believed: somebody
        has put another in its place, and the door stays as it is."""
        found = await self._store.keys()
        if found and found != self._seen:
            self._seen = found
            self._keys.accept([msgspec.json.decode(one, type=Key) for one in found], "store")

    async def keep_looking(self) -> None:
        """Until cancelled; what cannot be read changes nothing."""
        await recurring(LOOK, self.look)
