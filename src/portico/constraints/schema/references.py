"""Where a ``$ref`` leads: JSON pointers and anchors inside one schema. Nothing outside of it is followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from portico.constraints.schema.keywords import ASSERTING

__all__ = ["NoSuchPlaceError", "escaped", "pointer", "target"]


class NoSuchPlaceError(Exception):
    """It leads nowhere; the words say what the schema that has it does wrong."""


def pointer(root: Any, reference: Any) -> str:
    """Where ``reference`` leads, through references that are nothing but references, as ``#/…``."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise NoSuchPlaceError("refers to another document; only references that begin with '#' are followed")
    seen: set[str] = set()
    while True:
        fragment = unquote(reference[1:])
        if fragment and not fragment.startswith("/"):
            fragment = _anchor(root, fragment)
        if fragment in seen:
            raise NoSuchPlaceError("refers to itself and nothing else")
        seen.add(fragment)
        there = target(root, f"#{fragment}")
        onward = there.get("$ref") if isinstance(there, Mapping) else None
        if not isinstance(onward, str) or not onward.startswith("#") or len(ASSERTING & there.keys()) > 1:
            return f"#{fragment}"
        reference = onward


def target(root: Any, pointer: str) -> Any:
    """What stands at ``#/…`` in ``root``."""
    found = root
    for part in pointer[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise NoSuchPlaceError(f"refers to {pointer[:200]!r}, which is not there")
    return found


def escaped(name: str) -> str:
    """A member's name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _anchor(root: Any, name: str) -> str:
    """The pointer, without its ``#``, of the subschema that calls itself ``name``."""
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        where, value = stack.pop()
        if isinstance(value, Mapping):
            if value.get("$anchor") == name:
                return where
            stack += [(f"{where}/{escaped(key)}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            stack += [(f"{where}/{index}", inner) for index, inner in enumerate(value)]
    raise NoSuchPlaceError(f"refers to '#{name[:200]}', which is not there")
