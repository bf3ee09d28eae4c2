"""Values of every kind in every place of a request: which of them a server takes, and whether it names what it does
not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, TypeAlias

import httpx

__all__ = ["Place", "at", "kind", "path", "problems"]

Place: TypeAlias = tuple[str | int, ...]
VALUES: list[Any] = ["nope, ever", -1, 2.5, True, {"q": 1}, [["q"]], []]
THE_CLIENTS = ("parameters", "schema", "metadata", "input_schema", "logit_bias", "structured_outputs", "documents")


def _places(value: Any, place: Place) -> Iterator[Place]:
    """Where something can be changed. What a schema or metadata hold is the client's."""
    for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*place, key)
        if isinstance(inside, dict | list) and key not in THE_CLIENTS:
            yield from _places(inside, (*place, key))


def path(place: Place) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).lstrip(".")


def at(value: Any, place: Place) -> Any:
    """What stands there."""
    for key in place:
        value = value[key]
    return value


def kind(value: Any) -> str:
    """The kind of a JSON value."""
    return "number" if type(value) in (int, float) else type(value).__name__


def _changed(good: Mapping[str, Any], needed: Mapping[str, Any], place: Place, value: Any) -> dict[str, Any]:
    body = deepcopy({**needed, str(place[0]): good[str(place[0])]})
    at(body, place[:-1])[place[-1]] = value
    return body


def problems(
    post: Callable[[dict[str, Any]], httpx.Response],
    wrong: Callable[[dict[str, Any], Place, Any], bool],
    named: Callable[[httpx.Response, str], str | None],
    good: Mapping[str, Any],
    needed: Mapping[str, Any],
    field: str,
    lenient: Mapping[str, str],
) -> list[str]:
    """Where the ``field`` of the ``good`` request, asked with what is ``needed`` beside it, holds something ``wrong``
    that is not refused by its name. ``named`` is the path that a refusal names."""
    found = []
    for place in _places({field: good[field]}, ()):
        where = path(place)
        if any(re.fullmatch(pattern, where) for pattern in lenient):
            continue
        for value in VALUES:
            body = _changed(good, needed, place, value)
            if not wrong(body, place, value):
                continue
            refused = post(body)
            name = named(refused, field) if refused.status_code == 400 else None
            if name is None or not (where.startswith(name) or name.startswith(where)):
                found.append(f"{where} = {json.dumps(value)}: {refused.status_code} {name}")
    return found
