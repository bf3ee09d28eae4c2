"""What a template can take: the facts that ``messages`` needs to fit a conversation to it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Capabilities"]


@dataclass(frozen=True)
class Capabilities:
    """A template's abilities. The defaults describe a modern text model."""

    strings: bool = True  # content as one text
    parts: frozenset[str] = frozenset()  # roles whose content may be a list of typed parts
    system: bool = True
    several_systems: bool = True  # more than one, at the start
    late_systems: bool = True  # after the first user turn
    developer: bool = False
    tools: bool = True
    tool_role: bool = True
    parallel_calls: bool = True
    object_arguments: bool = True
    string_arguments: bool = True
    empty_content: str | None = ""  # what stands for no content beside tool calls
    reasoning_beside_calls: bool = True  # reasoning, content and calls in one turn
    thinking_parts: bool = False  # reasoning is a content part of type "thinking"
    short_call_ids: bool = False  # call ids are exactly nine letters or digits
