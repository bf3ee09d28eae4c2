"""The cache: right answers, least recently used out first, never beyond its bounds; what it is for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.constraints.cache import BoundedCache
from portico.constraints.lark import Lark, to_lark
from portico.constraints.limits import Limits
from portico.errors import BadRequestError
from portico.grammar import Json
from support.work import calls


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(0, 60)), max_size=80))
def test_against_a_plain_list(operations: list[tuple[bool, int, int]]) -> None:
    cache: BoundedCache[int] = BoundedCache(entries=4, size=100)
    kept: list[tuple[int, int, int]] = []  # key, value, size; least recently used first
    for value, (store, key, size) in enumerate(operations):
        found = next((entry for entry in kept if entry[0] == key), None)
        if store:
            kept = [entry for entry in kept if entry[0] != key] + [(key, value, size)]
            while len(kept) > 4 or sum(entry[2] for entry in kept) > 100:
                kept.pop(0)
            cache.put(key, value, size)
        else:
            assert cache.get(key) == (found[1] if found else None)
            if found:
                kept = [entry for entry in kept if entry[0] != key] + [found]
        assert len(cache) == len(kept)


def test_what_is_too_large_is_not_kept_and_displaces_nothing() -> None:
    cache: BoundedCache[str] = BoundedCache(entries=4, size=100)
    cache.put("a", "small", 10)
    cache.put("b", "large", 101)
    assert (cache.get("a"), cache.get("b")) == ("small", None)


def written(title: str, param: str = "a", limits: Limits | None = None, **more: Any) -> Lark:
    unique = {"type": "array", "items": {"type": "string", "format": "uri"}, "uniqueItems": True}
    return to_lark(Json({"title": title, **unique}, param, **{"strict": False} | more), {}, limits or Limits())


def test_a_schema_that_comes_again_costs_little() -> None:
    first = calls(lambda: written("again"))
    assert calls(lambda: written("again")) * 3 < first


def test_only_what_is_asked_for_alike_is_remembered() -> None:
    asked: list[dict[str, Any]] = [{}, {"param": "b"}, {"white_space": ""}, {"limits": Limits(items=3)}]
    found = [written("alike", **more) for more in asked]
    assert len(set(found)) == len(asked)
    assert [written("alike", **more) for more in asked] == found
    with pytest.raises(BadRequestError, match="uniqueItems"):
        written("alike", strict=True)
