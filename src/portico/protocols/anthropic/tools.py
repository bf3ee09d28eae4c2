"""Tools and the choice among them, in the neutral shape (OpenAI's) that prompting, parsing and constraints take.

Only tools that the client runs and describes can be served: a server tool would run on Anthropic's machines, and the
schema of an Anthropic-defined client tool is known to Anthropic's models alone. Both are refused by name.
A tool with ``defer_loading`` is shown to the model once a ``tool_reference`` in the conversation has named it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from portico.errors import BadRequestError, NotSupportedError
from portico.protocols.anthropic.schema import ToolChoice

__all__ = ["neutral_choice", "neutral_tools"]

_RUN_BY_THE_CLIENT = ("bash_", "computer_", "text_editor_", "memory_", "browser_toolset_")


def neutral_tools(tools: Sequence[dict[str, Any]] | None, referenced: Collection[str] = ()) -> list[dict[str, Any]]:
    """The tools that the model is shown. Raises ``BadRequestError`` naming the tool at fault."""
    names: set[str] = set()
    shown = []
    for index, tool in enumerate(tools or ()):
        where = f"tools[{index}]"
        neutral = _tool(tool, where)
        name = neutral["function"]["name"]
        if name in names:
            raise BadRequestError(f"{where}: tool names must be unique, and '{name[:64]}' is not.", param=where)
        names.add(name)
        if not tool.get("defer_loading") or name in referenced:
            shown.append(neutral)
    if names and not shown and not referenced:
        raise BadRequestError("At least one tool must not have 'defer_loading' set.", param="tools")
    return shown


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    kind = tool.get("type")
    if kind not in (None, "custom"):
        raise _foreign(str(kind), where)
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str) or not name:
        raise BadRequestError(f"{where}.name must be text.", param=f"{where}.name")
    if not isinstance(schema, dict):
        raise BadRequestError(f"{where}.input_schema must be a JSON schema (an object).", param=f"{where}.input_schema")
    function: dict[str, Any] = {"name": name}
    description = tool.get("description")
    if description is not None:
        if not isinstance(description, str):
            raise BadRequestError(f"{where}.description must be text.", param=f"{where}.description")
        function["description"] = description
    function["parameters"] = schema if "type" in schema else {"type": "object", **schema}
    if isinstance(tool.get("strict"), bool):
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _foreign(kind: str, where: str) -> NotSupportedError:
    if kind.startswith(_RUN_BY_THE_CLIENT):
        reason = "only Anthropic's models know its schema. Declare it as a custom tool, with an 'input_schema'"
    else:
        reason = "it is a server tool, which Anthropic's servers would run. Leave it out, or run a custom tool yourself"
    return NotSupportedError(f"{where}: '{kind[:64]}' cannot be used here: {reason}.", param=f"{where}.type")


def neutral_choice(choice: ToolChoice | None, tools: Sequence[dict[str, Any]]) -> str | dict[str, Any]:
    """``tool_choice`` as OpenAI says it. Raises ``BadRequestError`` when it asks for a tool that is not there."""
    if choice is None or choice.type in ("auto", "none"):
        return "none" if choice is not None and choice.type == "none" else "auto"
    if not tools:
        raise BadRequestError(f"tool_choice '{choice.type}' needs tools to choose from.", param="tool_choice")
    if choice.type == "any":
        return "required"
    name = choice.name or ""
    if all(tool["function"]["name"] != name for tool in tools):
        raise BadRequestError(f"tool_choice names '{name[:64]}', which is no tool here.", param="tool_choice.name")
    return {"type": "function", "function": {"name": name}}
