"""API keys: who may call. They are found by the hash of what is sent, on every route but the probes.

The decision is made on the raw path of the connection, never on a URL rebuilt from headers a client controls.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from portico.errors import AuthenticationError
from portico.keys import NOBODY, Key, hash_of, key_of
from portico.server.http.exchange import Exchange

__all__ = ["OPEN_PATHS", "PROBES", "Keys", "given_key"]

PROBES = frozenset({"/livez", "/readyz", "/health", "/ping"})  # what asks them has no key, and asks all day
OPEN_PATHS = PROBES | {"/"}

BAD = "This API key is not valid."


class Keys:
    """The keys that are accepted, from several sources; none at all means that everybody is. ``open_paths`` need none.

    One that was revoked or has expired opens nothing, but as long as it is there, a key is needed. ``clock`` gives unix
    seconds.
    """

    def __init__(
        self,
        secrets: Iterable[str] = (),
        open_paths: Collection[str] = OPEN_PATHS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._open_paths = frozenset(open_paths)
        self._clock = clock
        self._sources: dict[str, list[Key]] = {}
        self.accept(Key(hash=hash_of(secret)) for secret in secrets)

    def accept(self, keys: Iterable[Key], source: str = "settings") -> None:
        """These are the keys of that source from now on, and no others. Where two have one secret or name, the one with
        a name counts, and that of the earlier source."""
        self._sources[source] = list(keys)
        found = [key for one in self._sources.values() for key in one]
        all_keys = sorted(found, key=lambda key: not key.name)
        self._by_owner = {key.owner: key for key in reversed(all_keys)}
        # A secret is found by its hash, as in any dictionary: what the time of that tells is of hashes, which nobody
        # can choose, and not of secrets.
        self._by_hash = {bytes.fromhex(key.hash): key for key in reversed(all_keys)}
        self._by_former = {bytes.fromhex(key.former): key for key in reversed(all_keys) if key.former}

    @property
    def callers(self) -> list[str]:
        """The owners of what live keys make."""
        now = self._clock()
        return [owner for owner, key in self._by_owner.items() if key.lives(now)]

    def __bool__(self) -> bool:
        """Whether a key is needed."""
        return bool(self._by_hash)

    def check(self, exchange: Exchange) -> Key:
        """Who is asking. Raises ``AuthenticationError`` unless the request may proceed."""
        return NOBODY if exchange.path in self._open_paths else self.verify(given_key(exchange.headers))

    def verify(self, given: bytes | None) -> Key:
        """The key with this secret, which may be none at all; ``NOBODY`` where no keys are needed.

        Raises ``AuthenticationError`` unless it opens the door.
        """
        if not self:
            return NOBODY
        if given is None:
            raise AuthenticationError("No API key: send 'Authorization: Bearer KEY' or 'x-api-key: KEY'.")
        digest = hashlib.sha256(given).digest()
        now = self._clock()
        key = self._by_hash.get(digest)
        if key is None and (renewed := self._by_former.get(digest)) is not None and now < renewed.former_until:
            key = renewed
        if key is None:
            raise AuthenticationError(BAD)
        return self._living(key, now)

    def of(self, owner: str) -> Key:
        """The key of that owner, whose secret was shown before. Raises ``AuthenticationError`` where it is good no
        more."""
        key = self._by_owner.get(owner)
        if key is None and owner and self:
            raise AuthenticationError(BAD)
        return key_of(owner) if key is None else self._living(key, self._clock())

    @staticmethod
    def _living(key: Key, now: float) -> Key:
        if not key.lives(now):
            raise AuthenticationError(BAD if key.revoked_at is not None else "This API key has expired.")
        return key


def given_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key in a request's headers, or in the metadata of a call."""
    authorization = headers.get(b"authorization", b"")
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() == b"bearer" and credentials.strip():
        return credentials.strip()
    return headers.get(b"x-api-key") or None
