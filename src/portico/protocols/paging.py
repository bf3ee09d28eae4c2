"""Lists by the page: ``limit``, ``order`` and ``after``, the same for items, files and whatever OpenAI lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

from portico.errors import BadRequestError

__all__ = ["Window", "item_list", "limit_of", "page", "window"]

USUAL, MOST = 20, 100  # items of a page, unless a list has its own


class Window(NamedTuple):
    """Which part of a list is wanted."""

    limit: int
    order: Literal["asc", "desc"]
    after: str | None


def limit_of(query: Mapping[str, str], usual: int, most: int, *, digits: int = 4) -> int:
    """How many items the query asks for, in so many digits. Raises ``BadRequestError``."""
    limit = query.get("limit") or str(usual)
    if not (limit.isascii() and limit.isdigit() and len(limit) <= digits and 1 <= int(limit) <= most):
        raise BadRequestError(f"'limit' must be a whole number from 1 to {most}.", param="limit")
    return int(limit)


def window(query: Mapping[str, str], usual: int = USUAL, most: int = MOST) -> Window:
    """What the query asks for, of a list that has pages of at most ``most``. Raises ``BadRequestError``."""
    limit = limit_of(query, usual, most, digits=5)
    order = query.get("order") or "desc"
    if order not in ("asc", "desc"):
        raise BadRequestError("'order' must be 'asc' or 'desc'.", param="order")
    return Window(limit, cast(Literal["asc", "desc"], order), query.get("after") or None)


def item_list(items: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """One page."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def page(items: Sequence[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """The page of ``items``, which are in the order they came, that the query asks for."""
    limit, order, after = window(query)
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        place = next((n for n, item in enumerate(ordered) if item.get("id") == after), None)
        if place is None:
            raise BadRequestError("'after' is the id of no item of this list.", param="after")
        ordered = ordered[place + 1 :]
    return item_list(ordered[:limit], len(ordered) > limit)
