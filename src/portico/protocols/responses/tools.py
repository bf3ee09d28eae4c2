"""Tools: what the model is offered, and how its calls are named when they go back.

Inwards every tool is a function or a custom tool in the shape of chat completions, under one flat name. Outwards a call
becomes an item of its tool's own kind: ``function_call``, ``custom_tool_call``, or that of a tool which clients know by
type alone (a shell, a patch, a search for tools). What OpenAI's servers would run is left out and told.

A member of a namespace is called ``namespace__name``; longer names than the API allows end in a hash of the whole. A
tool with ``defer_loading`` is offered once an item of the conversation has brought it; at once where OpenAI's servers
would have searched for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portico.errors import BadRequestError
from portico.protocols.kinds import FLAG, OBJECT, TEXT, Kinds

__all__ = ["CLIENT_RUN", "Called", "ClientRun", "Offered", "echoed_tools", "flat_name", "offered_tools"]

LONGEST_NAME = 64  # characters of a function's name, as OpenAI has it
HIDDEN = "<redacted>"  # in place of what a header says
_HASHED = 8  # characters of the hash that ends a name which is too long

Tool = dict[str, Any]


@dataclass(frozen=True)
class Called:
    """How a call goes back: ``kind`` is the type of its item without ``_call``."""

    kind: str
    name: str
    namespace: str | None = None


@dataclass
class Offered:
    """The tools that the model is offered, in chat completions' shape, and the way back from their names."""

    tools: list[Tool] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # the index of each in the request's tools
    called: dict[str, Called] = field(default_factory=dict)
    choice: str | dict[str, Any] = "auto"
    left_out: list[str] = field(default_factory=list)
    listed: Mapping[str, Sequence[Tool]] = field(default_factory=dict)  # of MCP servers, by their labels

    def call(self, name: str) -> Called:
        """How a call of this name goes back; a tool that nobody has offered is a function."""
        return self.called.get(name) or Called("function", name)


def flat_name(namespace: str, name: str) -> str:
    """The one name of a namespace's member."""
    flat = f"{namespace}__{name}"
    if len(flat) <= LONGEST_NAME:
        return flat
    return f"{flat[: LONGEST_NAME - _HASHED - 1]}_{hashlib.sha256(flat.encode()).hexdigest()[:_HASHED]}"


def offered_tools(
    tools: Sequence[Tool] | None,
    choice: str | Mapping[str, Any] | None,
    brought: Sequence[Tool] = (),
    listed: Mapping[str, Sequence[Tool]] | None = None,
) -> Offered:
    """What is offered of a request's ``tools`` and of those that items have ``brought``; ``listed`` are those of
    the MCP servers that this server speaks to.

    Raises ``BadRequestError`` naming the tool at fault, and where ``tool_choice`` asks for what is not there.
    """
    offered = Offered(listed=listed or {})
    given = list(tools or ())
    searches = [tool for tool in given if tool.get("type") == "tool_search"]
    hidden = not any(tool.get("execution") != "client" for tool in searches) if searches else True
    for index, tool in enumerate(given):
        for flat, kind, shown in _members(tool, f"tools[{index}]", offered, hidden=hidden):
            _offer(offered, flat, kind, shown, index)
    for tool in brought:
        for flat, kind, shown in _members(tool, "tools of an item", offered, hidden=False):
            if flat not in offered.called:
                _offer(offered, flat, kind, shown, len(given))
    offered.choice = _choice(choice, offered)
    return offered


def _offer(offered: Offered, name: str, called: Called, shown: Tool, index: int) -> None:
    if name in offered.called:
        where = f"tools[{index}]"
        raise BadRequestError(f"{where}: tool names must be unique, and '{name}' is not.", param=where)
    offered.called[name] = called
    offered.tools.append(shown)
    offered.places.append(index)


def _members(tool: Tool, where: str, offered: Offered, *, hidden: bool) -> Iterator[tuple[str, Called, Tool]]:
    """The tools that one entry stands for: flat name, way back, as chat completions have it."""
    _check(tool, where)
    kind = tool.get("type")
    if hidden and tool.get("defer_loading") is True:
        return
    if kind == "namespace":
        namespace = _name(tool, where)
        members = tool.get("tools")
        if not isinstance(members, list) or not all(isinstance(one, dict) for one in members):
            raise BadRequestError(f"{where}.tools must be a list of tools.", param=f"{where}.tools")
        for number, member in enumerate(members):
            _check(member, f"{where}.tools[{number}]")
            if hidden and member.get("defer_loading") is True:
                continue
            own = _name(member, f"{where}.tools[{number}]")
            flat = flat_name(namespace, own)
            about = tool.get("description")
            described = f"{about}\n\n{member.get('description') or ''}".strip() if isinstance(about, str) else None
            shown = _shown({**member, **({"description": described} if described else {})}, flat, where)
            if shown is None:
                offered.left_out.append(f"{where}.tools[{number}] ({str(member.get('type'))[:40]})")
            else:
                yield flat, Called(str(member.get("type", "function")), own, namespace), shown
    elif kind in ("function", "custom", None):
        name = _name(tool, where)
        shown = _shown(tool, name, where)
        assert shown is not None
        yield name, Called(str(kind or "function"), name), shown
    elif kind in CLIENT_RUN and (kind != "tool_search" or tool.get("execution") == "client"):
        own_kind = CLIENT_RUN[str(kind)]
        yield own_kind.name, Called(str(kind), own_kind.name), own_kind.tool(tool)
    elif kind == "mcp" and tool.get("server_label") in offered.listed:
        label = str(tool["server_label"])
        for member in offered.listed[label]:
            flat = flat_name(label, member["name"])
            parts = {"description": member.get("description"), "parameters": member["input_schema"]}
            shown = _shown({"type": "function", **parts}, flat, where)
            assert shown is not None
            yield flat, Called("mcp", member["name"], label), shown
    elif kind != "tool_search":
        offered.left_out.append(f"{where} ({str(kind)[:40]}, which this server does not run)")


_TYPE = Kinds({"type": TEXT})
_OWN = Kinds({"description": TEXT, "parameters": OBJECT, "strict": FLAG, "defer_loading": FLAG})


def _check(tool: Tool, where: str) -> None:
    """Raise ``BadRequestError`` for what is of another kind than its field; of hosted tools their type alone counts."""
    _TYPE.check(tool, where)
    kind = tool.get("type")
    if kind in (None, "function", "custom", "namespace") or kind in CLIENT_RUN:
        _OWN.check(tool, where)


def _shown(tool: Tool, name: str, where: str) -> Tool | None:
    """A function or custom tool under ``name``."""
    kind = tool.get("type", "function")
    if kind not in ("function", "custom"):
        return None
    keys = ("description", "format") if kind == "custom" else ("description", "parameters", "strict")
    shown = {"name": name, **{key: tool[key] for key in keys if tool.get(key) is not None}}
    return {"type": kind, kind: shown}


def _name(tool: Mapping[str, Any], where: str) -> str:
    inside = tool.get("function")
    name = inside.get("name") if isinstance(inside, dict) else tool.get("name")
    if isinstance(inside, dict):
        raise BadRequestError(
            f"{where}: in this API a function's name and parameters stand beside its type, not in 'function'.",
            param=f"{where}.function",
        )
    if not isinstance(name, str) or not name:
        raise BadRequestError(f"{where}.name must be text.", param=f"{where}.name")
    return name


def _choice(choice: str | Mapping[str, Any] | None, offered: Offered) -> str | dict[str, Any]:
    """``tool_choice`` as chat completions have it."""
    if choice is None or isinstance(choice, str):
        if choice == "required" and not offered.tools:
            told = f" ({'; '.join(offered.left_out[:3])})" if offered.left_out else ""
            raise BadRequestError(
                f"tool_choice 'required' needs tools to choose from that the client runs{told}.", param="tool_choice"
            )
        if choice is not None and choice not in ("none", "auto", "required"):
            raise BadRequestError("tool_choice must be 'none', 'auto', 'required' or an object.", param="tool_choice")
        return choice or "auto"
    if not isinstance(choice.get("type"), str):
        raise BadRequestError("tool_choice.type must be text.", param="tool_choice.type")
    if choice["type"] == "allowed_tools":
        listed = choice.get("tools")
        if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
            raise BadRequestError("tool_choice.tools must be a list of tools.", param="tool_choice.tools")
        if choice.get("mode") not in ("auto", "required"):
            raise BadRequestError("tool_choice.mode must be 'auto' or 'required'.", param="tool_choice.mode")
        allowed = [one for entry in listed for one in _meant(entry, offered, several=True)]
        if listed and not allowed:
            raise BadRequestError("tool_choice allows no tool that is here.", param="tool_choice.tools")
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice["mode"], "tools": allowed}}
    if choice.get("type") == "mcp" and choice.get("name") is None:  # any tool of that server
        any_of = _meant(choice, offered, several=True)
        if any_of:
            return {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": any_of}}
    return _meant(choice, offered)[0]


def _meant(choice: Mapping[str, Any], offered: Offered, *, several: bool = False) -> list[dict[str, Any]]:
    """The tools that one entry of ``tool_choice`` names: one, or with ``several`` also a namespace, or none here."""
    kind, name = choice.get("type"), choice.get("name")
    namespace = choice.get("server_label" if kind == "mcp" else "namespace")
    if not isinstance(name, str):
        name = kind if kind in CLIENT_RUN else None
    found = [
        flat
        for flat, called in offered.called.items()
        if (called.name == name and (namespace is None or called.namespace == namespace)
            and kind in (None, called.kind)) or flat == name or (kind == "namespace" and called.namespace == name)
        or (kind == called.kind == "mcp" and name is None and called.namespace == namespace)
    ]  # fmt: skip
    if not found and not several:
        shown = str(name or kind)[:64]
        raise BadRequestError(f"tool_choice names '{shown}', which is no tool here.", param="tool_choice")
    shapes = {tool[tool["type"]]["name"]: tool["type"] for tool in offered.tools}
    named = [{"type": shapes[flat], shapes[flat]: {"name": flat}} for flat in found]
    return named if several else named[:1]


def echoed_tools(tools: Sequence[Tool] | None) -> list[Tool]:
    """The tools as the response repeats them: functions with all the keys that the description requires, MCP servers
    without what opens their doors."""
    return [_echoed(tool) for tool in tools or ()]


def _echoed(tool: Tool) -> Tool:
    if tool.get("type") == "function":
        return {"strict": None, "description": None, "parameters": None, **tool}
    if tool.get("type") != "mcp":
        return tool
    headers = tool.get("headers")
    hidden = {"headers": dict.fromkeys(headers, HIDDEN)} if isinstance(headers, dict) else {}
    return {**{key: value for key, value in tool.items() if key != "authorization"}, **hidden}


# -- tools that clients run and know by type ------------------------------------------------------------------------


@dataclass(frozen=True)
class ClientRun:
    """A tool without a schema: the function that the model is offered, and ``key``, under which its item has what the
    model wrote."""

    name: str
    description: str
    properties: Mapping[str, Any]
    required: Sequence[str]
    key: str
    item_of: Callable[[dict[str, Any]], dict[str, Any]]  # arguments -> what stands under ``key``
    arguments_of: Callable[[Mapping[str, Any]], dict[str, Any]]  # the way back

    def tool(self, given: Mapping[str, Any]) -> Tool:
        """The function, with the words and parameters that the request has for it."""
        parameters = given.get("parameters")
        if not isinstance(parameters, dict) or not parameters:
            parameters = {"type": "object", "properties": dict(self.properties), "required": list(self.required)}
        described = given.get("description")
        description = described if isinstance(described, str) and described else self.description
        return {
            "type": "function",
            "function": {"name": self.name, "description": description, "parameters": parameters},
        }


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _texts(description: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": description}


def _whole(description: str) -> dict[str, Any]:
    return {"type": "integer", "description": description}


def _strings(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [] if value is None else [str(value)]


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _local_shell(arguments: dict[str, Any]) -> dict[str, Any]:
    env = arguments.get("env")
    directory, user = arguments.get("working_directory"), arguments.get("user")
    return {
        "type": "exec",
        "command": _strings(arguments.get("command")),
        "env": {str(name): str(value) for name, value in env.items()} if isinstance(env, dict) else {},
        "working_directory": directory if isinstance(directory, str) else None,
        "timeout_ms": _number(arguments.get("timeout_ms")),
        "user": user if isinstance(user, str) else None,
    }


def _shell(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "commands": _strings(arguments.get("commands")),
        "timeout_ms": _number(arguments.get("timeout_ms")),
        "max_output_length": _number(arguments.get("max_output_length")),
    }


def _patch(arguments: dict[str, Any]) -> dict[str, Any]:
    kind = arguments.get("type")
    kind = kind if kind in ("create_file", "update_file", "delete_file") else "update_file"
    operation = {"type": kind, "path": str(arguments.get("path") or "")}
    return operation if kind == "delete_file" else {**operation, "diff": str(arguments.get("diff") or "")}


def _given(inside: Mapping[str, Any]) -> dict[str, Any]:
    """What is said, without what is null."""
    return {key: value for key, value in inside.items() if value is not None}


CLIENT_RUN: Mapping[str, ClientRun] = {
    "local_shell": ClientRun(
        "local_shell",
        "Runs a command on the user's computer and returns what it printed.",
        {
            "command": _texts("The command and its arguments, one by one."),
            "working_directory": _text("The directory to run it in."),
            "timeout_ms": _whole("How many milliseconds it may take."),
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        ["command"],
        "action",
        _local_shell,
        lambda action: {key: value for key, value in _given(action).items() if key != "type"},
    ),
    "shell": ClientRun(
        "shell",
        "Runs commands in a shell, each on its own, and returns what they printed.",
        {
            "commands": _texts("The commands to run."),
            "timeout_ms": _whole("How many milliseconds each may take."),
            "max_output_length": _whole("How many characters of output to return."),
        },
        ["commands"],
        "action",
        _shell,
        _given,
    ),
    "apply_patch": ClientRun(
        "apply_patch",
        "Creates, changes or deletes one file.",
        {
            "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
            "path": _text("The path of the file."),
            "diff": _text("The change as a V4A diff; for a new file all its lines, each with a + in front."),
        },
        ["type", "path"],
        "operation",
        _patch,
        _given,
    ),
    "tool_search": ClientRun(
        "tool_search",
        "Finds further tools, which can then be called.",
        {"query": _text("What the tool should be able to do.")},
        ["query"],
        "arguments",
        lambda arguments: arguments,
        _given,
    ),
}
