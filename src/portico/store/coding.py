"""Values as databases hold them: JSON as bytes, and ids that every database takes.

JSON is kept as bytes, because PostgreSQL's own types refuse U+0000, which models and clients do write.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson

__all__ = ["dumps", "key", "loads"]

LONGEST_KEY = 128  # characters
SLOW = b" "  # begins what orjson can neither write nor read again as it was


def dumps(value: Any) -> bytes:
    """Any JSON value as bytes."""
    try:
        return orjson.dumps(value)
    except TypeError:  # integers beyond 64 bits, lone surrogates
        return SLOW + json.dumps(value, separators=(",", ":")).encode()


def loads(data: bytes) -> Any:
    """The value that ``dumps`` wrote."""
    return json.loads(data) if data.startswith(SLOW) else orjson.loads(data)


def key(id: str) -> str:
    """``id`` as a column holds it: itself, or a digest of what a column cannot hold (NUL, surrogates, great length)."""
    if len(id) <= LONGEST_KEY and id.isascii() and "\0" not in id:
        return id
    return "sha256:" + hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
