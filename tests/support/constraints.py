"""Tools and answers to constrain, and the constraint alone, where a test does not ask what was left out."""

from __future__ import annotations

from typing import Any

from portico.constraints import compile_constraint
from portico.events import Constraint

ADD = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
}
SUB = {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "number"}, "maxItems": 3}}}
GOOD, BAD = '{"a": 1, "b": "x"}', '{"a": "one", "b": "x"}'
POINT = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"x": {"type": "integer"}}}}}


def tools(*, strict: bool | None = None) -> list[dict[str, Any]]:
    functions = [{"name": "add", "parameters": ADD}, {"name": "sub", "parameters": SUB}]
    return [{"type": "function", "function": {**function, "strict": strict}} for function in functions]


def bare_constraint(**parts: Any) -> Constraint | None:
    """``compile_constraint`` with these arguments; None when any text will do."""
    found = compile_constraint(**parts)
    return None if found is None else found.constraint
