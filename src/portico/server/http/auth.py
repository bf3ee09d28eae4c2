"""API keys: who may call. Several keys, compared as digests in constant time, on every route but the probes.

The decision is made on the raw path of the connection, never on a URL rebuilt from headers a client controls.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping

from portico.errors import AuthenticationError
from portico.server.http.exchange import Exchange

__all__ = ["OPEN_PATHS", "PROBES", "Keys", "given_key"]

PROBES = frozenset({"/livez", "/readyz", "/health", "/ping"})  # what asks them has no key, and asks all day
OPEN_PATHS = PROBES | {"/"}


class Keys:
    """The keys that are accepted; none at all means that everybody is. ``open_paths`` need none."""

    def __init__(self, keys: Iterable[str], open_paths: Collection[str] = OPEN_PATHS) -> None:
        self._open_paths = frozenset(open_paths)
        self.accept(keys)

    def accept(self, keys: Iterable[str]) -> None:
        """These are accepted from now on, and no others."""
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @property
    def callers(self) -> list[str]:
        """Everybody who can be told apart, as ``verify`` names them."""
        return [digest.hex() for digest in self._digests]

    def __bool__(self) -> bool:
        """Whether a key is needed."""
        return bool(self._digests)

    def check(self, exchange: Exchange) -> str:
        """Who is asking, as ``verify`` says it. Raises ``AuthenticationError`` unless the request may proceed."""
        return "" if exchange.path in self._open_paths else self.verify(given_key(exchange.headers))

    def verify(self, given: bytes | None) -> str:
        """The digest of this key, which may be none at all, as text; "" where no keys are needed.

        Raises ``AuthenticationError`` unless it opens the door.
        """
        if not self._digests:
            return ""
        if given is None:
            raise AuthenticationError("No API key: send 'Authorization: Bearer KEY' or 'x-api-key: KEY'.")
        digest = hashlib.sha256(given).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]  # all of them, whatever matched
        if not any(matches):
            raise AuthenticationError("This API key is not valid.")
        return digest.hex()


def given_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key in a request's headers, or in the metadata of a call."""
    authorization = headers.get(b"authorization", b"")
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() == b"bearer" and credentials.strip():
        return credentials.strip()
    return headers.get(b"x-api-key") or None
