"""MCP servers that a request names: what of their tools is offered, and the items that tell of them.

A tool is a dictionary as ``mcp_list_tools`` has it: ``name``, ``description``, ``input_schema``, ``annotations``. A
list that comes back as input spares listing again. A call that wants somebody's approval becomes an
``mcp_approval_request``, whose answer comes with the next request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portico.errors import BadRequestError
from portico.protocols.responses.ids import item_id
from portico.protocols.responses.items import Item, kind_of

__all__ = ["McpServer", "Told", "approved_requests", "call_item", "list_item", "mcp_servers", "tools_before"]

Tool = dict[str, Any]
Told = list[tuple[str, dict[str, Any]]]  # events of an item: types, and what they have beside its place

MOST_HEADERS = 32
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_VALUE = re.compile(r"[ -~]{0,8192}")
_NOT_THEIRS = ("host", "connection", "content-length", "content-type", "transfer-encoding", "accept-encoding")


@dataclass(frozen=True)
class McpServer:
    """One entry of ``tools``. ``allowed`` and ``approval`` are as they were given."""

    label: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    allowed: Any
    approval: Any

    def allows(self, tool: Tool) -> bool:
        """Whether the request wants this tool offered."""
        return self.allowed is None or _matches(self.allowed, tool)

    def wants_approval(self, tool: Tool) -> bool:
        """Whether somebody has to approve its calls."""
        if isinstance(self.approval, Mapping):
            never, always = self.approval.get("never"), self.approval.get("always")
            if never is not None and _matches(never, tool):
                return False
            return always is None or _matches(always, tool) or never is not None
        return bool(self.approval != "never")


def mcp_servers(tools: Sequence[Tool] | None) -> dict[str, McpServer]:
    """The servers that a request names by URL, by their labels. Raises ``BadRequestError`` naming what is wrong."""
    found: dict[str, McpServer] = {}
    for index, tool in enumerate(tools or ()):
        if tool.get("type") != "mcp" or tool.get("server_url") is None:
            continue
        where = f"tools[{index}]"
        label, url = tool.get("server_label"), tool["server_url"]
        if not isinstance(label, str) or not 0 < len(label) <= 64:
            raise BadRequestError(f"{where}.server_label must be text.", param=f"{where}.server_label")
        if label in found:
            raise BadRequestError(f"{where}.server_label: '{label}' is taken.", param=f"{where}.server_label")
        if not isinstance(url, str):
            raise BadRequestError(f"{where}.server_url must be a URL.", param=f"{where}.server_url")
        found[label] = McpServer(label, url, _headers(tool, where), tool.get("allowed_tools"), _approval(tool, where))
    return found


def _headers(tool: Tool, where: str) -> dict[str, str]:
    given = tool.get("headers") or {}
    good = isinstance(given, dict) and len(given) <= MOST_HEADERS
    if not good or not all(
        _HEADER.fullmatch(name)
        and isinstance(value, str)
        and _VALUE.fullmatch(value)
        and name.lower() not in _NOT_THEIRS
        for name, value in given.items()
    ):
        raise BadRequestError(f"{where}.headers must be headers, as names and texts.", param=f"{where}.headers")
    token = tool.get("authorization")
    if token is None:
        return given
    if not isinstance(token, str) or not _VALUE.fullmatch(token):
        raise BadRequestError(f"{where}.authorization must be a token.", param=f"{where}.authorization")
    return {**given, "Authorization": f"Bearer {token}"}


def _approval(tool: Tool, where: str) -> Any:
    given = tool.get("require_approval")
    if given in (None, "always", "never") or isinstance(given, Mapping):
        return given or "always"
    raise BadRequestError(
        f"{where}.require_approval must be 'always', 'never' or an object of both.", param=f"{where}.require_approval"
    )


def _matches(wanted: Any, tool: Tool) -> bool:
    """Whether a filter, or a list of names, has the tool in it."""
    if isinstance(wanted, Mapping):
        names, read_only = wanted.get("tool_names"), wanted.get("read_only")
        hint = (tool.get("annotations") or {}).get("readOnlyHint") is True
        return (names is None or tool["name"] in names) and (read_only is None or bool(read_only) == hint)
    return isinstance(wanted, list) and tool["name"] in wanted


def tools_before(items: Sequence[Item], label: str) -> list[Tool] | None:
    """The tools of a server as an item of the conversation lists them; None where none does."""
    for item in reversed(items):
        if kind_of(item) == "mcp_list_tools" and item.get("server_label") == label and not item.get("error"):
            tools = item.get("tools")
            if isinstance(tools, list) and all(_is_tool(tool) for tool in tools):
                return tools
    return None


def _is_tool(tool: Any) -> bool:
    return (
        isinstance(tool, dict)
        and isinstance(tool.get("name"), str)
        and bool(tool["name"])
        and isinstance(tool.get("input_schema"), dict)
        and isinstance(tool.get("annotations"), dict | None)
    )


def list_item(label: str, tools: Sequence[Tool], error: str | None) -> tuple[Item, Told]:
    """The item that says what tools a server has, and its events."""
    item = {
        "id": item_id("mcp_list_tools"),
        "type": "mcp_list_tools",
        "server_label": label,
        "tools": list(tools),
        "error": error,
    }
    kind = "response.mcp_list_tools"
    return item, [(f"{kind}.in_progress", {}), (f"{kind}.completed" if error is None else f"{kind}.failed", {})]


def call_item(label: str, name: str, arguments: str, approval_request_id: str | None = None) -> tuple[Item, Told]:
    """The item of a call that is about to run, and its first events."""
    item = {
        "id": item_id("mcp_call"),
        "type": "mcp_call",
        "status": "in_progress",
        "server_label": label,
        "name": name,
        "arguments": arguments,
        "output": None,
        "error": None,
        "approval_request_id": approval_request_id,
    }
    kind = "response.mcp_call"
    return item, [
        (f"{kind}.in_progress", {}),
        (f"{kind}_arguments.delta", {"delta": arguments}),
        (f"{kind}_arguments.done", {"arguments": arguments}),
    ]


def approved_requests(items: Sequence[Item]) -> list[Item]:
    """The requests for approval that somebody has approved and that have not been carried out."""
    done = {item.get("approval_request_id") for item in items if kind_of(item) == "mcp_call"}
    approved = {
        item.get("approval_request_id")
        for item in items
        if kind_of(item) == "mcp_approval_response" and item.get("approve") is True
    }
    return [
        item
        for item in items
        if kind_of(item) == "mcp_approval_request"
        and item.get("id") in approved - done
        and all(isinstance(item.get(key), str) for key in ("server_label", "name", "arguments"))
    ]
