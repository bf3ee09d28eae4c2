"""What a stream of events amounts to, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from portico.events import CallArguments, CallEnd, CallStart, Content, Event, Finish, Message, Reasoning, ToolCall

__all__ = ["finish_reason", "fold"]

Reason = Literal["stop", "length", "tool_calls", "abort", "error"]


def fold(events: Sequence[Event]) -> Message:
    """The message that a stream of events amounts to."""
    reasoning: list[str] = []
    content: list[str] = []
    calls: list[ToolCall] = []
    arguments: list[list[str]] = []
    message = Message()
    for event in events:
        if isinstance(event, Content):
            content.append(event.text)
        elif isinstance(event, Reasoning):
            reasoning.append(event.text)
        elif isinstance(event, CallArguments):
            arguments[event.index].append(event.json_fragment)
        elif isinstance(event, CallStart):
            calls.append(ToolCall(event.id, event.name, "", complete=False))
            arguments.append([])
        elif isinstance(event, CallEnd):
            calls[event.index].complete = True
        elif isinstance(event, Finish):
            message.finish_reason = event.reason
    for call, pieces in zip(calls, arguments, strict=True):
        call.arguments = "".join(pieces)
    message.reasoning, message.content, message.tool_calls = "".join(reasoning), "".join(content), calls
    return message


def finish_reason(engine: str, calls: int, named: bool) -> Reason:
    """What the client is told: ``length`` always wins; a named choice ends with ``stop`` in OpenAI's API."""
    if engine == "length":
        return "length"
    if engine == "abort":
        return "abort"
    if engine == "error":
        return "error"
    return "tool_calls" if calls and not named else "stop"
