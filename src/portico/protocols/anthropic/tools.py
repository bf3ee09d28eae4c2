"""Tools and the choice among them, in the neutral shape (OpenAI's) that prompting, parsing and constraints take.

What the client runs can be served: tools that it describes, and those that Anthropic's API names by type (see
``known_tools``). What Anthropic's servers would run (``web_search``, ``code_execution``, …) is left out and told.
A tool with ``defer_loading`` is shown to the model once a ``tool_reference`` in the conversation has named it; at once
where the search that would find it is one that Anthropic's servers run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from portico.errors import BadRequestError
from portico.protocols.anthropic.known_tools import known_function
from portico.protocols.anthropic.schema import ToolChoice

__all__ = ["ShownTools", "neutral_choice", "neutral_tools"]

SEARCH = "tool_search_tool_"


@dataclass
class ShownTools:
    """The tools that the model is shown, the place of each in the request, and what was left out, for people."""

    tools: list[dict[str, Any]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def neutral_tools(tools: Sequence[dict[str, Any]] | None, referenced: Collection[str] = ()) -> ShownTools:
    """The tools that the model is shown. Raises ``BadRequestError`` naming the tool at fault."""
    names: set[str] = set()
    shown = ShownTools()
    searched = not any(str(tool.get("type")).startswith(SEARCH) for tool in tools or ())
    for index, tool in enumerate(tools or ()):
        where = f"tools[{index}]"
        neutral = _tool(tool, where)
        if neutral is None:
            shown.left_out.append(f"{where} ({str(tool.get('type'))[:40]}, which this server does not run)")
            continue
        name = neutral["function"]["name"]
        if name in names:
            raise BadRequestError(f"{where}: tool names must be unique, and '{name[:64]}' is not.", param=where)
        names.add(name)
        if not (tool.get("defer_loading") and searched) or name in referenced:
            shown.tools.append(neutral)
            shown.places.append(index)
    if names and not shown.tools and not referenced:
        raise BadRequestError("At least one tool must not have 'defer_loading' set.", param="tools")
    return shown


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any] | None:
    """A tool in the neutral shape; None for one that the client cannot run."""
    kind = tool.get("type")
    if kind in (None, "custom"):
        function = _described(tool, where)
    else:
        known = known_function(str(kind), tool, where)
        if known is None:
            return None
        function = {"name": _name(tool, where), **known}
    if isinstance(tool.get("strict"), bool):
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _described(tool: dict[str, Any], where: str) -> dict[str, Any]:
    """A tool that its client has described."""
    function: dict[str, Any] = {"name": _name(tool, where)}
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise BadRequestError(f"{where}.input_schema must be a JSON schema (an object).", param=f"{where}.input_schema")
    description = tool.get("description")
    if description is not None:
        if not isinstance(description, str):
            raise BadRequestError(f"{where}.description must be text.", param=f"{where}.description")
        function["description"] = description
    function["parameters"] = schema if "type" in schema else {"type": "object", **schema}
    return function


def _name(tool: dict[str, Any], where: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise BadRequestError(f"{where}.name must be text.", param=f"{where}.name")
    return name


def neutral_choice(choice: ToolChoice | None, tools: Sequence[dict[str, Any]]) -> str | dict[str, Any]:
    """``tool_choice`` as OpenAI says it. Raises ``BadRequestError`` when it asks for a tool that is not there."""
    if choice is None or choice.type in ("auto", "none"):
        return "none" if choice is not None and choice.type == "none" else "auto"
    if not tools:
        raise BadRequestError(
            f"tool_choice '{choice.type}' needs tools to choose from that the client runs.", param="tool_choice"
        )
    if choice.type == "any":
        return "required"
    name = choice.name or ""
    if all(tool["function"]["name"] != name for tool in tools):
        raise BadRequestError(f"tool_choice names '{name[:64]}', which is no tool here.", param="tool_choice.name")
    return {"type": "function", "function": {"name": name}}
