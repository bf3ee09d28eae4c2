"""JSON Schema as the TypeScript that gpt-oss reads: a function's parameters as one object type.

The layout is the reference renderer's, oddities included, because the model learned it so: comments above a property,
defaults behind it, ``oneOf`` as one variant per line, nested objects indented by four and their comments with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["function_type"]

SIMPLE = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}
MAX_DEPTH = 32


def function_type(function: Mapping[str, Any]) -> str:
    """The declaration of one function, with its description as a comment and a blank line after it."""
    comments = "".join(f"// {line}\n" for line in str(function.get("description") or "").splitlines())
    parameters = function.get("parameters")
    argument = f"_: {_type(parameters, '')}" if isinstance(parameters, Mapping) and parameters else ""
    return f"{comments}type {function.get('name', '')} = ({argument}) => any;\n"


def _type(schema: Any, indent: str, depth: int = 0) -> str:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return "any"
    if isinstance(schema.get("oneOf"), list):
        variants = [variant if isinstance(variant, Mapping) else {} for variant in schema["oneOf"]]
        return "".join(f"\n{_variant(one, _notes(one, quoted=True), indent, depth)}" for one in variants)
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        return " | ".join("number" if one == "integer" else str(one) for one in kind)
    if kind == "object":
        return _object(schema, indent, depth)
    if kind == "array":
        return f"{_type(schema['items'], indent, depth + 1)}[]" if "items" in schema else "Array<any>"
    if kind == "string" and isinstance(schema.get("enum"), list):
        words = [f'"{word}"' for word in schema["enum"] if isinstance(word, str)]
        return " | ".join(words) or "string"
    return SIMPLE.get(str(kind), "any")


def _object(schema: Mapping[str, Any], indent: str, depth: int) -> str:
    lines = []
    description = schema.get("description")
    opening = f"{indent}// {description}\n{{" if isinstance(description, str) else "{"
    properties = schema.get("properties")
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    for name, value in properties.items() if isinstance(properties, Mapping) else ():
        spec = value if isinstance(value, Mapping) else {}
        lines += [f"{indent}{line}" for line in _comments(spec)]
        mark = "" if name in required else "?"
        if isinstance(spec.get("oneOf"), list):
            lines += _variants(spec, f"{name}{mark}", indent, depth)
            continue
        shown = _nullable(spec, _type(spec, f"{indent}    ", depth + 1))
        lines.append(f"{indent}{name}{mark}: {shown},{_default(spec, ' // ')}")
    return "\n".join([opening, *lines, f"{indent}}}"])


def _comments(spec: Mapping[str, Any]) -> list[str]:
    """Title, description and examples of a property."""
    lines = []
    if isinstance(spec.get("title"), str):
        lines += [f"// {spec['title']}", "//"]
    if isinstance(spec.get("description"), str) and "oneOf" not in spec:
        lines.append(f"// {spec['description']}")
    if isinstance(spec.get("examples"), list) and spec["examples"]:
        lines += ["// Examples:", *(f'// - "{one}"' for one in spec["examples"] if isinstance(one, str))]
    return lines


def _variants(spec: Mapping[str, Any], name: str, indent: str, depth: int) -> list[str]:
    """A property that is one of several types: one line for each, described behind it."""
    variants = [variant if isinstance(variant, Mapping) else {} for variant in spec["oneOf"]]
    description = spec.get("description")
    first = variants[0].get("description") if variants else None
    above = isinstance(description, str) and description != first
    lines = [f"{indent}// {description}"] if above else []
    if default := _default(spec, "// "):
        lines.append(f"{indent}{default}")
    lines.append(f"{indent}{name}:")
    for i, variant in enumerate(variants):
        told = variant.get("description") == description or (i == 0 and above)
        lines.append(_variant(variant, _notes(variant, described=not told), indent, depth))
    return [*lines, f"{indent},"]


def _variant(variant: Mapping[str, Any], notes: str, indent: str, depth: int) -> str:
    """One line of a ``oneOf``."""
    return f"{indent} | {_nullable(variant, _type(variant, f'{indent}   ', depth + 1))}{notes}"


def _notes(variant: Mapping[str, Any], *, described: bool = True, quoted: bool = False) -> str:
    """What is told behind a variant: its description and default."""
    description = variant.get("description")
    notes = [description] if described and isinstance(description, str) else []
    notes += [default] if (default := _default(variant, "", quoted=quoted)) else []
    return f" // {' '.join(notes)}" if notes else ""


def _nullable(spec: Mapping[str, Any], shown: str) -> str:
    return f"{shown} | null" if spec.get("nullable") is True and "null" not in shown else shown


def _default(spec: Mapping[str, Any], before: str, *, quoted: bool = False) -> str:
    if "default" not in spec:
        return ""
    default = spec["default"]
    if isinstance(default, str) and not quoted:
        return f"{before}default: {default}" if spec.get("enum") else f'{before}default: "{default}"'
    text = json.dumps(default, ensure_ascii=False, separators=(",", ":"))
    return f"{before}default: {text.replace('e+', 'e') if isinstance(default, float) else text}"
