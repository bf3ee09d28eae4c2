"""Several servers over one store tell each other what every API key has used, so that its limits hold over all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from portico.errors import OverloadedError, StoreError
from portico.keys.accounts import Accounts
from portico.server.process.recurring import recurring

if TYPE_CHECKING:
    from portico.store import Store
    from portico.store.accounts import Heard

__all__ = ["Settling"]

log = logging.getLogger("portico")

EVERY: Final = 0.5  # seconds between two times, by whichever process of the server comes first
LIVES: Final = 10.0  # seconds after which what a silent server had in flight is forgotten


class Settling:
    """Tells others by way of the store what ``accounts`` count, and ``accounts`` what others do."""

    def __init__(self, store: Store, accounts: Accounts) -> None:
        self._store = store
        self._accounts = accounts
        self._heard: dict[str, dict[str, Heard]] = {}  # by account and server
        self._living: dict[str, set[str]] = {}  # of those servers, by account
        self._since = 0.0

    async def settle(self) -> None:
        """Tell and hear, once. Raises ``StoreError``; then others are told later."""
        told = self._accounts.tell()
        try:
            now, news = await self._store.settle(self._accounts.server, told, self._since)
        except BaseException:
            self._accounts.untold(told)
            raise
        self._since = now
        changed = {one.account for one in news}
        for one in news:
            self._heard.setdefault(one.account, {})[one.server] = one
        for account, heard in self._heard.items():
            living = {server for server, one in heard.items() if now - one.told_at < LIVES}
            if account in changed or living != self._living.get(account):
                self._living[account] = living
                self._hear(account, heard, living)

    def _hear(self, account: str, heard: dict[str, Heard], living: set[str]) -> None:
        told = [one.content for one in heard.values()]
        try:
            self._accounts.hear(account, told, [heard[server].content for server in living])
        except OverloadedError as error:
            log.warning("limits of an API key hold in this server alone: %s", error.message)

    async def keep_settling(self) -> None:
        """Until cancelled."""
        await recurring(EVERY, self._settle_in_turn)

    async def _settle_in_turn(self) -> None:
        if self._accounts.turn(EVERY):
            await self.settle()

    async def close(self) -> None:
        """Tell what is left to tell; nothing is in flight any more."""
        try:
            await self.settle()
        except StoreError:
            pass  # it is logged there, and forgotten by others when it has been silent long enough
