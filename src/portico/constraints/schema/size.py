"""How large a JSON value is, found out with work that is bounded by what is allowed, not by what was sent."""

from __future__ import annotations

from typing import Any

__all__ = ["is_larger"]


def is_larger(value: Any, limit: int) -> bool:
    """Whether the JSON text of ``value`` would have about ``limit`` characters or more; looks no further than that."""
    size = 0
    stack = [iter((value,))]
    while stack:
        for one in stack[-1]:
            if isinstance(one, str):
                size += len(one) + 2
            elif isinstance(one, dict):
                size += 2
                stack.append(_flat(one))
                break
            elif isinstance(one, list):
                size += 2
                stack.append(iter(one))
                break
            else:
                size += 2
            if size >= limit:
                return True
        else:
            stack.pop()
        if size >= limit:
            return True
    return False


def _flat(members: dict[str, Any]) -> Any:
    for name, value in members.items():
        yield name
        yield value
