"""What a tool's schema says about a value.

Its types come from ``type``, the values of ``enum`` and ``const``, the branches of ``anyOf``, ``oneOf`` and ``allOf``,
with ``$ref`` followed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from portico import grammar as g

__all__ = ["UNKNOWN", "Schema", "declared"]

_ALIASES = {
    **dict.fromkeys(("str", "text", "varchar", "char", "enum"), "string"),
    **dict.fromkeys(
        ("int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64"), "integer"
    ),
    **dict.fromkeys(("long", "short", "unsigned"), "integer"),
    **dict.fromkeys(("float", "float32", "float64", "double"), "number"),
    "bool": "boolean",
    "dict": "object",
    **dict.fromkeys(("arr", "list", "sequence", "tuple"), "array"),
    "none": "null",
}
_PYTHON = {str: "string", bool: "boolean", int: "integer", float: "number"}
_PYTHON |= {type(None): "null", dict: "object", list: "array"}
_HOPS = 32  # references followed in a row


class Schema:
    """One node of a JSON schema, together with the root that its references point into."""

    __slots__ = ("_types", "node", "root")

    def __init__(self, node: Any, root: Any = None) -> None:
        self.root = node if root is None else root
        self.node: Mapping[str, Any] = _follow(node, self.root)
        self._types: frozenset[str] | None = None

    @property
    def types(self) -> frozenset[str]:
        """JSON type names a value may have; empty where the schema does not say."""
        if self._types is None:
            self._types = frozenset(_types(self.node, self.root, 0))
        return self._types

    def member(self, name: str, given: Mapping[str, str] | None = None) -> Schema | None:
        """The schema of a member, or None where it is not declared.

        Branches of a union that declare it are joined, without those that ``given``, the JSON text of members that are
        known, rules out: a discriminator decides.
        """
        found = _members(self.node, self.root, name, given or {}, 0)
        if not found:
            return None
        return Schema(found[0] if len(found) == 1 else {"anyOf": found}, self.root)

    @property
    def choices(self) -> list[Any] | None:
        """The values that the schema allows, where it lists them."""
        return _choices(self.node, self.root, 0)

    @property
    def items(self) -> Schema:
        """The schema of an array's items."""
        for node in (self.node, *_branches(self.node, self.root)):
            if isinstance(node.get("items"), Mapping):
                return Schema(node["items"], self.root)
        return UNKNOWN

    def members(self) -> list[tuple[str, Schema, bool]]:
        """The declared members: name, schema, and whether it is required."""
        found: dict[str, tuple[Schema, bool]] = {}
        for node in (self.node, *(b for b in _branches(self.node, self.root) if "allOf" in self.node)):
            required = node.get("required") if isinstance(node.get("required"), list) else []
            for name, member in (node.get("properties") or {}).items():
                found[name] = Schema(member, self.root), name in (required or [])
        return [(name, schema, required) for name, (schema, required) in found.items()]

    @property
    def is_open(self) -> bool:
        """Whether an object may have members that are not declared."""
        return (
            not self.members() and self.node.get("additionalProperties") is not False and "properties" not in self.node
        )

    def as_json(self, whole: g.Json, kind: str = "") -> g.Json:
        """This node alone, as JSON under the rules of ``whole``, with the definitions that it may refer to. ``kind``:
        only its values of this type, as far as the node itself says something of them."""
        node = dict(self.node)
        if kind and len(self.types) != 1:
            unions = ("nullable", "anyOf", "oneOf", "allOf")
            node = {key: value for key, value in node.items() if "type" in node and key not in unions} | {"type": kind}
        if isinstance(self.root, Mapping):
            node |= {key: self.root[key] for key in ("$defs", "definitions") if key in self.root and key not in node}
        return g.Json(node, whole.param, whole.strict, whole.white_space)

    @property
    def sizes(self) -> tuple[int, int | None]:
        """How many items an array may have."""
        low, high = self.node.get("minItems"), self.node.get("maxItems")
        return low if isinstance(low, int) else 0, high if isinstance(high, int) else None

    @property
    def is_text(self) -> bool:
        """Whether the value can only be a string."""
        return self.types == _TEXT

    @property
    def is_nested(self) -> bool:
        """Whether the value can only be an object or an array."""
        return bool(self.types) and self.types <= _NESTED


_TEXT = frozenset({"string"})
_NESTED = frozenset({"object", "array"})


def _follow(node: Any, root: Any) -> Mapping[str, Any]:
    for _ in range(_HOPS):
        if not isinstance(node, Mapping):
            return {}
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return node
        target = root
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping):
                target = target.get(step)
            elif isinstance(target, list) and step.isdigit() and int(step) < len(target):
                target = target[int(step)]
            else:
                target = None
        node = target
    return {}


def _branches(node: Mapping[str, Any], root: Any, *kinds: str) -> list[Mapping[str, Any]]:
    found = []
    for key in kinds or ("anyOf", "oneOf", "allOf"):
        members = node.get(key)
        if isinstance(members, list):
            found += [_follow(member, root) for member in members]
    return found


def _types(node: Mapping[str, Any], root: Any, depth: int) -> set[str]:
    named = node.get("type")
    several = named if isinstance(named, list) else [named]
    found = {_ALIASES.get(name.lower(), name.lower()) for name in several if isinstance(name, str)}
    if not found and isinstance(node.get("enum"), list):
        found = {_PYTHON.get(type(value), "string") for value in node["enum"]}
    if not found and "const" in node:
        found = {_PYTHON.get(type(node["const"]), "string")}
    if depth < _HOPS:
        either: set[str] = set()
        for branch in _branches(node, root, "anyOf", "oneOf"):
            either |= _types(branch, root, depth + 1)
        for kinds in (either, *(_types(branch, root, depth + 1) for branch in _branches(node, root, "allOf"))):
            found = (found & kinds or found) if found and kinds else found | kinds
    if not found and "properties" in node:
        found = {"object"}
    if not found and "items" in node:
        found = {"array"}
    if found and node.get("nullable") is True:
        found.add("null")
    return found


def _members(
    node: Mapping[str, Any], root: Any, name: str, given: Mapping[str, str], depth: int
) -> list[Mapping[str, Any]]:
    """The schemas of a member that a node allows."""
    properties = node.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        own = _follow(properties[name], root)
        if own or not depth:
            return [own]
    found: list[Mapping[str, Any]] = []
    if depth < _HOPS:
        for branch in _branches(node, root):
            if _fits(branch, root, given):
                found += [one for one in _members(branch, root, name, given, depth + 1) if one not in found]
    if found:
        return found
    if isinstance(properties, Mapping) and name in properties:
        return [{}]
    extra = node.get("additionalProperties")
    return [extra] if isinstance(extra, Mapping) and extra else []


def _fits(branch: Mapping[str, Any], root: Any, given: Mapping[str, str]) -> bool:
    """Whether the members that are known may stand in this branch."""
    properties = branch.get("properties")
    for key, text in given.items():
        if not isinstance(properties, Mapping) or key not in properties:
            continue
        allowed = _choices(_follow(properties[key], root), root, 0)
        try:
            if allowed is not None and json.loads(text) not in allowed:
                return False
        except ValueError:
            continue
    return True


def _choices(node: Mapping[str, Any], root: Any, depth: int) -> list[Any] | None:
    if "const" in node:
        return [node["const"]]
    if isinstance(node.get("enum"), list):
        return list(node["enum"])
    either = _branches(node, root, "anyOf", "oneOf")
    if not either or depth >= _HOPS:
        return None
    found: list[Any] = []
    for branch in either:
        listed = _choices(branch, root, depth + 1)
        if listed is None:
            return None
        found += listed
    return found


UNKNOWN = Schema({})


def declared(tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Schema]:
    """The schema of each tool's arguments by its name, from OpenAI's nested shape or the Responses API's flat one."""
    found: dict[str, Schema] = {}
    for tool in tools or ():
        function = tool.get("function", tool)
        name = function.get("name")
        if isinstance(name, str):
            found[name] = Schema(function.get("parameters") or {})
    return found
