"""What of the messages does not reach a prompt: thoughts of earlier turns, text beside calls, whatever a template
leaves out. Clients are told, since nothing else would show it.

A text counts as there if it is found, up to white space around it and to JSON's way of writing it, or if its lines are.
The prompt is looked through a bounded number of times, however many messages there are: what comes after is not judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from portico.prompting.messages import THINKING_PARTS, detailed, plain_text
from portico.prompting.turns import REASONING_KEYS

__all__ = ["left_out"]

THOUGHT_ENDS = ("</think>", "[/THINK]")  # behind them a text that holds its own thought goes on
NO_TOOLS = "tools (the model's template has no place for them)"
FIRST_TOOLS = 4
MOST_READINGS = 64  # of the whole prompt
MOST_NAMED = 20
MOST_LINES = 40  # of a text, from both ends


def left_out(messages: object, prompt: str, tools: object = None) -> list[str]:
    """The paths of what is in ``messages`` and ``tools`` and not in ``prompt``, such as
    ``messages[3].reasoning_content``. A tool counts as there if its name is."""
    reader = _Reader(prompt)
    missing = _hidden(tools, reader)
    for i, message in enumerate(messages if isinstance(messages, Sequence) else ()):
        for path, text in _texts(message) if isinstance(message, Mapping) else ():
            if reader.budget < 0 or len(missing) == MOST_NAMED:
                return missing
            if not reader.shows(text):
                missing.append(f"messages[{i}].{path}")
    return missing


def _hidden(tools: object, reader: _Reader) -> list[str]:
    """The tools whose names are not there; one word for all of them, if the first few are not."""
    missing: list[str] = []
    judged = 0
    for i, tool in enumerate(tools if isinstance(tools, Sequence) else ()):
        if reader.budget < 0 or len(missing) == MOST_NAMED or len(missing) == judged == FIRST_TOOLS:
            break
        if name := _name(tool):
            judged += 1
            if not reader.shows(name):
                missing.append(f"tools[{i}]")
    return [NO_TOOLS] if missing and len(missing) == judged else missing


def _name(tool: object) -> str:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""


def _texts(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a message says, and where it says it."""
    content = message.get("content")
    if isinstance(content, str):
        yield "content", content
    thoughts = []
    for j, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, Mapping):
            continue
        if part.get("type") in THINKING_PARTS:
            thoughts.append((f"content[{j}]", plain_text(part.get(THINKING_PARTS[part["type"]]) or part.get("text"))))
        for key in ("text", "refusal"):
            if isinstance(part.get(key), str) and part.get("type") not in THINKING_PARTS:
                yield f"content[{j}].{key}", part[key]
    named = [(key, message[key]) for key in REASONING_KEYS if message.get(key) and isinstance(message[key], str)]
    details = detailed(message.get("reasoning_details"))
    yield from named[:1] or ([("reasoning_details", details)] if details else thoughts)
    calls = message.get("tool_calls")
    for k, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            yield f"tool_calls[{k}]", function["name"]


class _Reader:
    """Looks for one text after the other, from where it found the last one on first."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.budget = MOST_READINGS * max(len(prompt), 1)  # characters
        self._at = 0

    def shows(self, text: str) -> bool:
        text = text.strip()
        if self._finds(text) or self._finds(json.dumps(text, ensure_ascii=False)[1:-1]):
            return True
        for end in THOUGHT_ENDS:
            if end in text:
                return self.shows(text.rpartition(end)[2])
        lines = text.splitlines()
        return len(lines) > 1 and all(self._finds(line.strip()) for line in {*lines[:MOST_LINES], *lines[-MOST_LINES:]})

    def _finds(self, text: str) -> bool:
        for start in (self._at, 0) if self._at else (0,):
            found = self.prompt.find(text, start)
            self.budget -= (found if found >= 0 else len(self.prompt)) - start
            if found >= 0:
                self._at = found
                return True
        return False
