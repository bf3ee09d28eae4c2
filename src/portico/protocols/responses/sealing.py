"""What a client carries for this server without reading it: thoughts, and the summaries of compacted conversations.

A sealed text is ``pt1.`` and base64url of ``nonce ‖ AES-256-GCM(text)`` under a key made of the server's secret. What
it is for is authenticated with it, so that a thought does not come back as a summary, which a model takes for the past.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Purpose", "Sealer"]

Purpose = Literal["thought", "compaction"]

VERSION = "pt1."
_NONCE = 12  # bytes, as GCM wants them


class Sealer:
    """Seals and opens under one secret; without a given ``secret`` under one of its own making, so that what it sealed
    ends with the process."""

    def __init__(self, secret: str | None = None) -> None:
        material = secret.encode() if secret else secrets.token_bytes(32)
        self._key = hashlib.sha256(b"portico sealed\0" + material).digest()

    @cached_property
    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # six megabytes: only where something is sealed

        return AESGCM(self._key)

    def seal(self, text: str, purpose: Purpose) -> str:
        """``text`` in a form that only this server reads again."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._cipher.encrypt(nonce, text.encode("utf-8", "replace"), purpose.encode())
        return VERSION + base64.urlsafe_b64encode(nonce + sealed).decode("ascii")

    def open(self, sealed: object, purpose: Purpose) -> str | None:
        """The text, or None where this server has not sealed it for this purpose."""
        if not isinstance(sealed, str) or not sealed.startswith(VERSION):
            return None
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.urlsafe_b64decode(sealed[len(VERSION) :])
            return self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], purpose.encode()).decode()
        except (binascii.Error, ValueError, InvalidTag):
            return None
