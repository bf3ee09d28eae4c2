"""The part of docs/api.md that is made from the request schemas; ``python tests/support/api_page.py`` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from portico.server.routes.paths import BODIES

__all__ = ["BEGIN", "END", "PAGE", "fields_of", "generated", "models"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
SIGNS = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most", "exclusiveMaximum": "below"}
BEGIN, END = "<!-- made from the request schemas -->", "<!-- end -->"


def models() -> dict[type[BaseModel], list[str]]:
    """Each request model with the paths that take it."""
    found: dict[type[BaseModel], list[str]] = {}
    for (path, _), model in BODIES.items():
        found.setdefault(model, []).append(path)
    return found


def fields_of(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The schema of each field under the name that clients use, references resolved."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    return {name: _resolved(field, definitions) for name, field in schema["properties"].items()}


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    found = dict(schema)
    if branches := schema.get("anyOf", schema.get("oneOf")):
        found["anyOf"] = [_resolved(one, definitions) for one in branches]
    if isinstance(schema.get("items"), dict):
        found["items"] = _resolved(schema["items"], definitions)
    return found


def takes(schema: dict[str, Any]) -> str:
    """What a field takes, in words. Null is the same as absent and is not said."""
    branches = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return " or ".join(dict.fromkeys(map(_words, branches)))


def _words(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {takes(schema['items']) if schema.get('items') else 'anything'}"
    if kind in ("integer", "number"):
        return f"{kind}{_range(schema)}"
    if kind == "object":
        inside = ", ".join(f"`{name}`" for name in schema.get("properties", {}))
        return f"object ({inside})" if inside else "object"
    return {"string": "text"}.get(kind, kind)


def _range(schema: dict[str, Any]) -> str:
    """The bounds of a number; those of the type that holds it are not worth saying."""
    bounds = {key: value for key, value in schema.items() if key in SIGNS and abs(value) < 1 << 62}
    if bounds.keys() == {"minimum", "maximum"}:
        return f" from {bounds['minimum']:g} to {bounds['maximum']:g}"
    return "".join(f", {SIGNS[key]} {value:g}" for key, value in bounds.items())


def generated() -> str:
    """The tables, one for each request model."""
    parts = [BEGIN]
    for model, paths in models().items():
        parts += ["", "#### " + ", ".join(f"`{path}`" for path in paths), "", "| field | takes |", "|---|---|"]
        required = model.model_json_schema(by_alias=True).get("required", [])
        for name, schema in fields_of(model).items():
            parts.append(f"| {name}{' (required)' if name in required else ''} | {takes(schema)} |")
    return "\n".join([*parts, "", END])


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + generated() + rest.partition(END)[2])
