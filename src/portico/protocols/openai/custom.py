"""Custom tools of chat completions: functions of one text argument inwards, their own shape outwards.

Inwards a custom tool is a function with one string argument, ``input`` (``portico.constraints.custom``), so that every
family can call it; its grammar, which the model cannot see otherwise, is added to the description. Outwards the call's
arguments, which come as pieces of ``{"input": "…"}``, become the text itself, piece by piece.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from portico.constraints.custom import INPUT

__all__ = ["InputText", "as_function_choice", "as_functions", "custom_names", "with_function_calls"]


def custom_names(tools: Sequence[Mapping[str, Any]] | None) -> frozenset[str]:
    """The names of the tools that are custom ones."""
    found = (tool.get("custom", tool) for tool in tools or () if tool.get("type") == "custom")
    return frozenset(one["name"] for one in found if isinstance(one, Mapping) and isinstance(one.get("name"), str))


def as_functions(tools: Sequence[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The tools as functions, for templates and parsers."""
    return None if tools is None else [_as_function(tool) if tool.get("type") == "custom" else tool for tool in tools]


def as_function_choice(tool_choice: str | dict[str, Any] | None) -> str | dict[str, Any]:
    """A ``tool_choice`` as parsers understand it: a mode, or a function by name."""
    if not isinstance(tool_choice, dict):
        return tool_choice or "auto"
    if tool_choice.get("type") == "custom":
        return {"type": "function", "function": tool_choice.get("custom", tool_choice)}
    if tool_choice.get("type") == "allowed_tools":
        inside = tool_choice.get("allowed_tools", tool_choice)
        return str(inside.get("mode", "auto")) if isinstance(inside, dict) else "auto"
    return tool_choice


def with_function_calls(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with calls of custom tools as calls of functions."""
    return [_with_function_calls(message) for message in messages]


def _with_function_calls(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not any(
        isinstance(call, dict) and call.get("type") == "custom" for call in calls
    ):
        return message
    return {**message, "tool_calls": [_as_function_call(call) for call in calls]}


def _as_function_call(call: Any) -> Any:
    if not isinstance(call, dict) or call.get("type") != "custom" or not isinstance(call.get("custom"), dict):
        return call
    custom = call["custom"]
    arguments = json.dumps({INPUT: custom.get("input", "")}, ensure_ascii=False)
    return {**call, "type": "function", "function": {"name": custom.get("name"), "arguments": arguments}}


def _as_function(tool: dict[str, Any]) -> dict[str, Any]:
    custom = tool.get("custom", tool)
    if not isinstance(custom, dict):
        return tool
    described = [str(custom[key]) for key in ("description",) if custom.get(key)]
    given = custom.get("format")
    if isinstance(given, dict) and given.get("type") == "grammar":
        grammar = given.get("grammar", given)
        if isinstance(grammar, dict):
            described.append(f"The input follows this {grammar.get('syntax')} grammar:\n{grammar.get('definition')}")
    function: dict[str, Any] = {"name": custom.get("name")}
    if described:
        function["description"] = "\n\n".join(described)
    text = {"type": "string", "description": "The input of the tool, as plain text."}
    function["parameters"] = {"type": "object", "properties": {INPUT: text}, "required": [INPUT]}
    return {"type": "function", "function": function}


class InputText:
    """Pieces of a call's arguments -> pieces of the input's text.

    The text is the first member that is a string; a model that was not held to the framing may have named it otherwise.
    Where no member is one, the input is the arguments as they are, at the end.
    """

    _OPENS = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*"')

    def __init__(self) -> None:
        self._held = ""
        self._inside = False
        self._over = False

    def feed(self, fragment: str) -> str:
        """The text that this piece of the arguments adds."""
        if self._over:
            return ""
        self._held += fragment
        if not self._inside:
            opened = self._OPENS.match(self._held)
            if opened is None:
                return ""
            self._inside, self._held = True, self._held[opened.end() :]
        return self._text()

    def close(self) -> str:
        """What is left, once the arguments are complete."""
        rest, self._held = self._held, ""
        done, self._over = self._over, True
        return "" if done or self._inside else rest

    def _text(self) -> str:
        """The characters that are complete; half an escape is held."""
        at = 0
        held = self._held
        pieces: list[str] = []
        while at < len(held):
            if held[at] == '"':
                self._over = True
                break
            if held[at] != "\\":
                end = min((found for mark in '\\"' if (found := held.find(mark, at)) >= 0), default=len(held))
                pieces.append(held[at:end])
                at = end
                continue
            size = self._escape(held, at)
            if at + size > len(held):
                break
            try:
                pieces.append(json.loads(f'"{held[at : at + size]}"'))
            except ValueError:
                pieces.append(held[at : at + size])
            at += size
        self._held = "" if self._over else held[at:]
        return "".join(pieces)

    @staticmethod
    def _escape(held: str, at: int) -> int:
        """How long the escape at ``at`` is, with the other half of a surrogate pair."""
        if held[at + 1 : at + 2] != "u":
            return 2
        return 12 if held[at + 2 : at + 4].lower() in ("d8", "d9", "da", "db") else 6
