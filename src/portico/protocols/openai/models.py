"""``/v1/models``: what is served, in OpenAI's shape with what the field has come to expect beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portico.generation import Card

__all__ = ["card", "model_list"]


def card(model: Card) -> dict[str, Any]:
    """One model under one of its names. ``created`` is stable, so that clients may cache the list. An adapter names the
    model that it adapts as its ``parent``; what is not known before a model has been loaded is left out."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "portico",
        "root": model.root,
        **({} if model.parent is None else {"parent": model.parent}),
        **({} if model.context_length is None else {"max_model_len": model.context_length}),
        "capabilities": sorted(model.capabilities),
        "state": model.state,
    }


def model_list(cards: Iterable[Card]) -> dict[str, Any]:
    """All models; every served name is a card of its own."""
    return {"object": "list", "data": [card(one) for one in cards]}
