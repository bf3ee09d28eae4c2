"""What a key is: a name, the hash of a secret, and what whoever sends that secret may do.

What a client makes belongs to its key's ``owner``. That is the name, so a key that gets a new secret keeps what is its
own; keys without a name (``--api-key``) are the hash of their secret, and have no limits of their own.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from portico.errors import BadRequestError, PermissionDeniedError
from portico.threads import CALLER

__all__ = ["KEY", "NOBODY", "TERMS", "Key", "check_operator", "enter", "hash_of", "key_of", "new_secret", "new_terms"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")  # one word in a log line and in a metric's label
_HASH = re.compile(r"[0-9a-f]{64}")
_DIGITS = 8  # of a hash, where it stands for a name

Count = Annotated[int, Meta(ge=1, le=10**15)]


class Terms(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a key may do; None: as much as there is.

    ``models`` are names and shell patterns, none at all means every model. Of ``priority`` lower is served first, as on
    vLLM. ``expires`` is in unix seconds. An ``operator`` may load and unload models and adapters.
    """

    expires: float | None = None
    models: tuple[str, ...] = ()
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_day: Count | None = None
    in_flight: Count | None = None
    priority: Annotated[int, Meta(ge=-(10**6), le=10**6)] | None = None
    operator: bool = False


TERMS: Final = Terms.__struct_fields__


class Key(Terms, frozen=True, kw_only=True, omit_defaults=True):
    """A key: ``hash`` is the SHA-256 of its secret, in hex. Until ``former_until`` the ``former`` one opens the door,
    too. Times are in unix seconds; those of keys that nobody has made in a store are 0."""

    name: str = ""
    hash: str = ""
    former: str = ""
    former_until: float = 0.0
    created_at: float = 0.0
    revoked_at: float | None = None

    @property
    def owner(self) -> str:
        """To whom belongs what this key makes; empty where no key is needed."""
        return f"key:{self.name}" if self.name else self.hash

    @property
    def shown(self) -> str:
        """What logs call it."""
        return self.name or self.hash[:_DIGITS]

    def lives(self, now: float) -> bool:
        """Whether it is good then, in unix seconds."""
        return self.revoked_at is None and (self.expires is None or now < self.expires)

    @property
    def may_operate(self) -> bool:
        """Whether it may load and unload. A secret without a name is the operator's own, and where no key is needed
        everybody is."""
        return self.operator or not self.name

    def may_use(self, names: Iterable[str]) -> bool:
        """Whether it may use the model that has these names."""
        return not self.models or any(fnmatchcase(name, pattern) for name in names for pattern in self.models)


NOBODY: Final = Key()  # who asks where no key is needed
KEY: ContextVar[Key] = ContextVar("key", default=NOBODY)  # by which this task's request was let in


def enter(key: Key) -> None:
    """What this task does from now on is that key's."""
    CALLER.set(key.owner)
    KEY.set(key)


def check_operator() -> None:
    """Raises ``PermissionDeniedError`` unless this task's key may load and unload."""
    if not KEY.get().may_operate:
        raise PermissionDeniedError(
            "This API key may not load or unload; that takes one of 'portico keys add --operator', or with 'operator' "
            "in the keys file."
        )


def key_of(owner: str) -> Key:
    """A key of which only the owner is known."""
    _, colon, name = owner.partition(":")
    return Key(name=name) if colon else Key(hash=owner)


def hash_of(secret: str) -> str:
    """The hash of a secret, as keys have it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    """A secret that nobody guesses."""
    return f"sk-portico-{secrets.token_urlsafe(32)}"


def new_terms(name: str, hash: str, terms: Mapping[str, Any], created_at: float = 0.0) -> Key:
    """A key as an operator describes it. Raises ``BadRequestError``, which names what is wrong."""
    if not _NAME.fullmatch(name):
        raise BadRequestError(
            f"'{name[:64]}' is no name for a key: take 1 to 64 letters, digits and . _ @ -, a letter or digit first.",
            param="name",
        )
    kind, colon, digits = hash.partition(":")
    if not _HASH.fullmatch(digits if colon and kind == "sha256" else hash):
        raise BadRequestError(
            "'hash' must be sha256: and the 64 hex digits that 'portico keys hash' prints; never the secret itself.",
            param="hash",
        )
    given = {field: value for field, value in terms.items() if value is not None}
    try:
        return msgspec.convert({**given, "name": name, "hash": hash[-64:], "created_at": created_at}, Key)
    except msgspec.ValidationError as error:
        told, _, place = str(error).partition(" - at `$.")
        field = place.rstrip("`").split("[")[0]
        raise BadRequestError(f"'{field}': {told.replace('`', '')}." if field else f"{told}.", param=field) from None
