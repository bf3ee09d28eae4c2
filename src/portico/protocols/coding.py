"""JSON as it goes out."""

from __future__ import annotations

import json
from typing import Any

import orjson

__all__ = ["encoded"]


def encoded(value: Any) -> bytes:
    """Any JSON value, as bytes: also one that repeats what a request may hold and orjson does not write, which is
    integers beyond 64 bits and lone surrogates."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()
