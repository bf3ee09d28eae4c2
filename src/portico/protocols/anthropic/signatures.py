"""Signatures of thinking: how this server knows its own thoughts again when a client sends them back.

A signature is ``base64(version ‖ mac ‖ carried)``: the mac is HMAC-SHA256 over version and text under a secret of the
server, ``carried`` the text itself where the client asked not to be shown it (``display: omitted``) and must still be
able to return it. That is opaque, not secret: it hides nothing from a client that could have asked to see it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

__all__ = ["Signer"]

_SHOWN, _CARRIED = b"\x01", b"\x02"
_MAC = 32  # bytes


class Signer:
    """Signs and verifies thinking under one secret; without a given ``secret`` under one of its own making, so that
    signatures end with the process."""

    def __init__(self, secret: str | None = None) -> None:
        material = secret.encode() if secret else secrets.token_bytes(32)
        self._key = hashlib.sha256(b"portico thinking\0" + material).digest()

    def sign(self, thinking: str, *, carry: bool = False) -> str:
        """The signature of a thought; with ``carry`` it also holds the thought."""
        version, text = (_CARRIED if carry else _SHOWN), thinking.encode()
        return base64.b64encode(version + self._mac(version, text) + (text if carry else b"")).decode("ascii")

    def verify(self, thinking: str, signature: str) -> str | None:
        """The thought behind a returned block, or None where this server has not written it."""
        try:
            raw = base64.b64decode(signature, validate=True)
            shown = thinking.encode()
        except (binascii.Error, ValueError):
            return None
        version, mac, carried = raw[:1], raw[1 : 1 + _MAC], raw[1 + _MAC :]
        if version == _CARRIED and not thinking:
            text = carried
        elif version == _SHOWN and not carried:
            text = shown
        else:
            return None
        return text.decode() if hmac.compare_digest(mac, self._mac(version, text)) else None

    def _mac(self, version: bytes, text: bytes) -> bytes:
        return hmac.digest(self._key, version + text, "sha256")
