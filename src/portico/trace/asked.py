"""What a request asks, in a few words: what a list of requests shows, and what is searched for in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["asked"]

LONGEST = 400  # characters


def asked(fields: Mapping[str, Any]) -> str | None:
    """The beginning of what was said last to the model, on one line; None where nothing was said."""
    messages = fields.get("messages")
    said = messages if isinstance(messages, list) else fields.get("input", fields.get("prompt"))
    text = " ".join(_text(said).split())
    return text[:LONGEST] or None


def _text(said: Any) -> str:
    """The text of a message, of its parts, or of the last of several that has some."""
    if isinstance(said, str):
        return said
    if isinstance(said, Mapping):
        return _text(said.get("text") or said.get("content") or said.get("output"))
    if isinstance(said, list):
        return next((text for one in reversed(said) if (text := _text(one))), "")
    return ""
