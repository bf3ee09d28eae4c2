"""Fresh identifiers, short, because a stream repeats its own in every event."""

from __future__ import annotations

import secrets
from base64 import b64encode

__all__ = ["fresh"]


def fresh() -> str:
    """Sixteen letters and digits: 95 bits of chance, so nobody guesses one, and no two are alike."""
    return b64encode(secrets.token_bytes(12), b"xy").decode()
