"""Identifiers of responses, items, conversations."""

from __future__ import annotations

import secrets

from portico.protocols.ids import fresh

__all__ = ["LONGEST_ID", "item_id", "new_id"]

LONGEST_ID = 128  # characters of an id that a client may have chosen

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "local_shell_call": "lsh",
    "local_shell_call_output": "lsho",
    "shell_call": "sh",
    "shell_call_output": "sho",
    "apply_patch_call": "apc",
    "apply_patch_call_output": "apco",
    "tool_search_call": "tsc",
    "tool_search_output": "tso",
    "additional_tools": "at",
    "mcp_list_tools": "mcpl",
    "mcp_call": "mcp",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
    "compaction": "cmp",
}


def new_id(prefix: str) -> str:
    """A fresh id, such as ``resp_…``."""
    return f"{prefix}_{secrets.token_hex(16)}"


def item_id(kind: str) -> str:
    """A fresh id of an item of this type, which all its events repeat."""
    return f"{_PREFIXES.get(kind, 'item')}_{fresh()}"
