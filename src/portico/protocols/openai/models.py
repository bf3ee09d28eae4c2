"""``/v1/models``: what is served, in OpenAI's shape with what the field has come to expect beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portico.generation import Model

__all__ = ["card", "model_list"]


def card(model: Model, name: str, root: str | None = None) -> dict[str, Any]:
    """One model under one of its names. ``created`` is stable, so that clients may cache the list. An adapter names the
    model that it adapts as its ``parent``."""
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "portico",
        "root": root or model.name,
        **({} if model.parent is None else {"parent": model.parent}),
        "max_model_len": model.context_length,
        "capabilities": sorted(model.capabilities),
    }


def model_list(cards: Iterable[tuple[str, Model]]) -> dict[str, Any]:
    """All models; every served name is a card of its own."""
    return {"object": "list", "data": [card(model, name) for name, model in cards]}
