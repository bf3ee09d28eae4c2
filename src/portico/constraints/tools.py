"""Which tools a request lets a model call, how often, and what of that has to be enforced.

In: ``tools``, ``tool_choice`` and ``parallel_tool_calls`` in OpenAI's shape; every protocol speaks it inwards. Out: a
``CallPolicy``, from which parsing makes the family's own framing of exactly these calls.

- ``required`` and a named tool are binding: the answer is calls, arguments to the schema.
- ``auto`` binds where a tool is ``strict`` (a call of it follows its schema; of another tool, any object), where a
  custom tool has a grammar, or ``parallel_tool_calls`` is false (at most one call).
- Arguments under ``strict`` are held to all of the schema or refused; without it, to as much as a grammar can hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from portico.constraints.custom import input_schema
from portico.constraints.limits import Limits
from portico.errors import BadRequestError
from portico.grammar import Json, Tool

__all__ = ["CallPolicy", "call_policy"]


class CallPolicy(Struct, frozen=True):
    """The calls that a request allows: of ``tools``, at least ``low``, at most ``high`` (None: any number).

    ``binding`` says that the request promises something of calls; ``strict`` is the field of the first strict tool,
    empty where there is none. A policy that is not binding matters only where the
    answer is constrained too and calls have to stay possible beside it.
    """

    tools: tuple[Tool, ...]
    low: int = 0
    high: int | None = None
    binding: bool = False
    strict: str = ""


def call_policy(
    tools: Sequence[Mapping[str, Any]] | None,
    tool_choice: str | Mapping[str, Any] | None = None,
    parallel_tool_calls: bool | None = None,
) -> CallPolicy | None:
    """The policy of a request; None when no tool may be called.

    Raises ``BadRequestError`` on ``tool_choice`` when it asks for what ``tools`` does not have.
    """
    declared = [_function(tool, index) for index, tool in enumerate(tools or ())]
    choice, names = _choice(tool_choice)
    if choice == "none":
        return None
    if not declared:
        if choice == "required":
            raise BadRequestError("tool_choice asks for a call, but there are no tools.", param="tool_choice")
        return None
    if names is not None:
        if set(names) - {function["name"] for _, function in declared}:
            raise BadRequestError("tool_choice names a function that is not in tools.", param="tool_choice")
        declared = [(index, function) for index, function in declared if function["name"] in names]
    single = parallel_tool_calls is False
    if choice == "required":
        named = isinstance(tool_choice, Mapping) and tool_choice.get("type") != "allowed_tools"
        allowed = tuple(_tool(index, function, free=False) for index, function in declared)
        return CallPolicy(allowed, low=1, high=1 if single or named else None, binding=True)
    allowed = tuple(_tool(index, function, free=function.get("strict") is not True) for index, function in declared)
    strict = next((f"tools[{n}].function.strict" for n, function in declared if function.get("strict") is True), "")
    grammars = any(_has_grammar(function) for _, function in declared)
    return CallPolicy(allowed, high=1 if single else None, binding=bool(strict) or grammars or single, strict=strict)


def _choice(tool_choice: str | Mapping[str, Any] | None) -> tuple[str, list[str] | None]:
    """``none``, ``auto`` or ``required``, and the names that it is limited to."""
    if tool_choice is None:
        return "auto", None
    if isinstance(tool_choice, str) and tool_choice in ("none", "auto", "required"):
        return tool_choice, None
    if isinstance(tool_choice, Mapping) and tool_choice.get("type") in ("function", "custom"):
        return "required", [_named(tool_choice)]
    if isinstance(tool_choice, Mapping) and tool_choice.get("type") == "allowed_tools":
        inside = tool_choice.get("allowed_tools", tool_choice)
        if isinstance(inside, Mapping) and inside.get("mode") in ("auto", "required"):
            listed = inside.get("tools")
            if isinstance(listed, list) and all(isinstance(one, Mapping) for one in listed):
                return str(inside["mode"]), [_named(one) for one in listed]
    raise BadRequestError(
        "tool_choice must be 'none', 'auto', 'required', a function, or allowed_tools with a mode and tools.",
        param="tool_choice",
    )


def _named(choice: Mapping[str, Any]) -> str:
    inside = choice.get("custom") if choice.get("type") == "custom" else choice.get("function")
    name = (choice if inside is None else inside).get("name") if isinstance(inside, Mapping | None) else None
    if not isinstance(name, str):
        raise BadRequestError("tool_choice must name a function.", param="tool_choice")
    return name


def _function(tool: Mapping[str, Any], index: int) -> tuple[int, Mapping[str, Any]]:
    kind = "custom" if tool.get("type") == "custom" else "function"
    function = tool.get(kind, tool)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRequestError(f"tools[{index}] must be a function with a name.", param=f"tools[{index}].{kind}.name")
    return index, {**function, "custom": kind == "custom"}


def _tool(index: int, function: Mapping[str, Any], *, free: bool) -> Tool:
    """``free``: any object will do for arguments. A tool without ``parameters`` has none."""
    if function["custom"]:
        return _custom(index, function)
    param = f"tools[{index}].function.parameters"
    parameters = function.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise BadRequestError(f"{param} must be a JSON Schema of type object.", param=param)
    if free:
        return Tool(function["name"], Json({"type": "object"}, param, strict=False))
    schema = parameters if "type" in parameters or "$ref" in parameters else {"type": "object", **parameters}
    return Tool(function["name"], Json(schema, param, strict=function.get("strict") is True))


def _custom(index: int, function: Mapping[str, Any]) -> Tool:
    """A custom tool, whose grammar is held whether it is forced or not: that is what it is given for."""
    param = f"tools[{index}].custom.format"
    schema = input_schema(function.get("format"), param, Limits())
    return Tool(function["name"], Json(schema, param), has_grammar=_has_grammar(function))


def _has_grammar(function: Mapping[str, Any]) -> bool:
    given = function.get("format")
    return function["custom"] and isinstance(given, Mapping) and given.get("type") == "grammar"
