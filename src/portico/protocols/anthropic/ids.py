"""Identifiers in Anthropic's alphabet (letters, digits, ``_`` and ``-``), and the way back to a model's own.

A model that writes ids of its own was trained to read them again, so they must survive the trip through the client:
one that is long enough not to return in a later answer, and legal, goes as it is; any other (``functions.search:0``,
``1``) travels inside a fresh id.
"""

from __future__ import annotations

import re
import secrets

__all__ = ["call_id_for_client", "call_id_for_model", "new_id", "request_id"]

_KEPT = re.compile(r"[a-zA-Z0-9_-]{9,64}")  # nine: what Mistral's models write
_GENERATED = "call_"  # how parsing names a call whose format has no ids
_WRAPPED = re.compile(r"toolu_[0-9a-f]{12}x((?:[0-9a-f]{2})+)")


def new_id(prefix: str) -> str:
    """A fresh id, such as ``msg_…``."""
    return f"{prefix}_{secrets.token_hex(12)}"


def request_id(id: str) -> str:
    """A request's id in the ``request-id`` header and in errors: ``req_…``."""
    return id if id.startswith("req_") else f"req_{id}"


def call_id_for_client(own: str) -> str:
    """The id under which the client knows the call that parsing calls ``own``."""
    if own.startswith(_GENERATED) and _KEPT.fullmatch(own):
        return "toolu_" + own[len(_GENERATED) :]
    if _KEPT.fullmatch(own):
        return own
    return f"toolu_{secrets.token_hex(6)}x{own.encode().hex()}"


def call_id_for_model(id: str) -> str:
    """The model's own id of the call that the client calls ``id``."""
    wrapped = _WRAPPED.fullmatch(id)
    if wrapped is None:
        return id
    try:
        return bytes.fromhex(wrapped[1]).decode()
    except UnicodeDecodeError:
        return id
