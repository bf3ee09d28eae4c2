"""``/v1/models`` in Anthropic's shape: cards, and pages of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico.errors import BadRequestError
from portico.generation import Card
from portico.protocols.times import rfc3339

__all__ = ["card", "page"]


def card(model: Card) -> dict[str, Any]:
    """``ModelInfo`` of one model under one of its names; null is what is not known before it has been loaded."""
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": rfc3339(model.created),
        "lifecycle": "active",
        "max_input_tokens": model.context_length,
        "max_tokens": model.context_length,
    }


def page(cards: Sequence[Card], query: Mapping[str, str]) -> dict[str, Any]:
    """One page of models. ``query`` may hold ``limit`` (1 to 1000, 20 if absent), ``after_id`` and ``before_id``."""
    limit = query.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:5]) <= 1000):
        raise BadRequestError("'limit' must be a number from 1 to 1000.", param="limit")
    names = [one.name for one in cards]
    first, last = 0, len(cards)
    if "after_id" in query:
        first = _position(names, query["after_id"], "after_id") + 1
    if "before_id" in query:
        last = _position(names, query["before_id"], "before_id")
    shown = list(cards[first:last])
    backwards = "before_id" in query and "after_id" not in query
    cut = shown[-int(limit) :] if backwards else shown[: int(limit)]
    return {
        "data": [card(one) for one in cut],
        "has_more": len(cut) < len(shown),
        "first_id": cut[0].name if cut else None,
        "last_id": cut[-1].name if cut else None,
    }


def _position(names: Sequence[str], name: str, param: str) -> int:
    if name not in names:
        raise BadRequestError(f"'{param}' names no model here.", param=param)
    return names.index(name)
