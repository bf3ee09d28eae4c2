"""Definitions that lead back to themselves, written out to a number of levels.

A model that is held to a recursive definition may go down for ever. So each such definition stands here once for every
level, the lowest without the way back: what would need a further level cannot be chosen there, and where it is
required, what requires it cannot be chosen either.

Definitions are followed in the order in which they are first met; only a reference back to an earlier one, or to
itself, goes down a level.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from portico.constraints.limits import Limits
from portico.constraints.schema.keywords import Schema, types_of

__all__ = ["unrolled"]

_REFERENCE = re.compile(r'"\$ref": "#/\$defs/(\w+)"')


def unrolled(
    root: dict[str, Any], definitions: Mapping[str, Schema], limits: Limits
) -> tuple[dict[str, Any], dict[str, Schema]]:
    """The same schema, and its definitions, without circles. The schema has a finite document."""
    leads = {name: set(_REFERENCE.findall(json.dumps(body))) for name, body in definitions.items()}
    circular = _circular(leads)
    if not circular:
        return root, dict(definitions)
    order = {name: index for index, name in enumerate(_met(root, leads, circular))}
    least, most = limits.levels
    size = sum(_size(definitions[name]) for name in order)
    levels = max(least, min(most, limits.unrolled // max(size, 1)))
    while True:
        found = _written(definitions, order, levels)
        result = _pruned(_at(root, order, levels, None), found)
        if isinstance(result, dict):
            rest = {
                name: _pruned(_at(body, order, levels, None), found)
                for name, body in definitions.items()
                if name not in order
            }
            held = {name: body for name, body in {**found, **rest}.items() if body is not False}
            return result, held
        levels *= 2  # the smallest document needs more of them


def _circular(leads: Mapping[str, set[str]]) -> set[str]:
    """The definitions on a circle, or between two."""
    rest = dict(leads)
    while True:
        reached = set().union(*rest.values()) if rest else set()
        keep = {name for name, targets in rest.items() if name in reached and targets & rest.keys()}
        if len(keep) == len(rest):
            return keep
        rest = {name: rest[name] & keep for name in keep}


def _met(root: Any, leads: Mapping[str, set[str]], circular: set[str]) -> list[str]:
    """The circular definitions in the order of a walk from the root, each before what it leads to."""
    order: dict[str, None] = {}
    stack = sorted(_REFERENCE.findall(json.dumps(root)), reverse=True)
    seen: set[str] = set()
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in circular:
            order[name] = None
        stack += sorted(leads.get(name, ()), reverse=True)
    return [*order, *sorted(circular - order.keys())]


def _size(schema: Any) -> int:
    if isinstance(schema, list):
        return sum(map(_size, schema))
    return 1 + sum(map(_size, schema.values())) if isinstance(schema, dict) else 0


def _written(definitions: Mapping[str, Schema], order: Mapping[str, int], levels: int) -> dict[str, Schema]:
    """Every definition of ``order`` on every level, lowest first; False where nothing satisfies it there."""
    found: dict[str, Schema] = {}
    for level in range(levels):
        for name in reversed([*order]):
            body = _at(definitions[name], order, level, order[name])
            found[_named(name, level)] = _pruned(body, found)
    return found


def _named(name: str, level: int) -> str:
    return f"{name}_{level}"


def _at(schema: Any, order: Mapping[str, int], level: int, index: int | None) -> Any:
    """``schema`` as part of the definition at ``index`` on ``level``; from outside (None) on the highest one."""
    if isinstance(schema, list):
        return [_at(one, order, level, index) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        name = str(value).removeprefix("#/$defs/")
        if key in ("const", "enum"):
            out[key] = value
        elif key == "$ref" and isinstance(value, str) and name in order:
            below = level - 1 if index is None or order[name] <= index else level
            if below < 0:
                return False
            out[key] = f"#/$defs/{_named(name, below)}"
        else:
            out[key] = _at(value, order, level, index)
    return out


def _pruned(schema: Any, found: Mapping[str, Schema]) -> Any:
    """``schema`` without the ways that lead to what nothing satisfies; False where no other is left."""
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = dict(schema)
    if "$ref" in out and found.get(out["$ref"].removeprefix("#/$defs/")) is False:
        return False
    for key in ("anyOf", "oneOf"):
        if key in out:
            out[key] = [one for one in (_pruned(one, found) for one in out[key]) if one is not False]
            if not out[key]:
                return False
    if "allOf" in out:
        out["allOf"] = [_pruned(one, found) for one in out["allOf"]]
        if False in out["allOf"]:
            return False
    impossible: set[str] = set()
    for key in ("properties", "patternProperties"):
        if key in out:
            out[key] = {name: _pruned(one, found) for name, one in out[key].items()}
    if any(out.get("properties", {}).get(name) is False for name in out.get("required", ())):
        impossible.add("object")
    if "additionalProperties" in out:
        out["additionalProperties"] = _pruned(out["additionalProperties"], found)
    if "patternProperties" in out and False in out["patternProperties"].values():
        others = {name: one for name, one in out["patternProperties"].items() if one is not False}
        out["patternProperties"] = others
        if not others:
            del out["patternProperties"]
    if out.get("minProperties") and not (
        out.get("properties") or out.get("patternProperties") or out.get("additionalProperties", True)
    ):
        impossible.add("object")
    if "prefixItems" in out:
        items = [_pruned(one, found) for one in out["prefixItems"]]
        if False in items:
            items, out["items"] = items[: items.index(False)], False
        out["prefixItems"] = items
        if not items:
            del out["prefixItems"]
    if "items" in out:
        out["items"] = _pruned(out["items"], found)
        if out["items"] is False:
            if out.get("minItems", 0) > len(out.get("prefixItems", ())):
                impossible.add("array")
            out.pop("maxItems", None)
    if impossible & set(types_of(out)):
        left = [kind for kind in types_of(out) if kind not in impossible]
        if not left:
            return False
        out["type"] = left
    return out
