"""``context_management``: what a request wants cleared out of its own history before the model reads it.

An edit looks at the messages and at how many tokens they came to, and gives the messages that it leaves; the tokens
that it saved are known once their prompt has been made. Cleared tool results are replaced by a note, so that the model
knows that there was one. Kinds of edits that are not known here are left to the caller to tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from portico.protocols.anthropic.schema import ContextEdit

__all__ = ["CLEARS_THINKING", "CLEARS_TOOL_USES", "Edited", "edited", "is_known"]

CLEARS_TOOL_USES = "clear_tool_uses_20250919"
CLEARS_THINKING = "clear_thinking_20251015"

TRIGGER = 100_000  # input tokens; this and the next two are the API's defaults
KEPT_USES = 3
KEPT_THINKING_TURNS = 1
NOTE = "[The result of this call was cleared to make room.]"

Message = dict[str, Any]
Block = dict[str, Any]


@dataclass(frozen=True)
class Edited:
    """The messages after an edit, and how much it has cleared: tool uses, or turns with thinking."""

    edit: ContextEdit
    messages: list[Message]
    cleared: int

    def enough(self, tokens: int) -> bool:
        """Whether clearing ``tokens`` is what the request thinks worth an edit."""
        least = self.edit.clear_at_least
        return least is None or tokens >= least.value

    def told(self, tokens: int) -> dict[str, Any]:
        """The entry in ``applied_edits`` of an edit that has cleared ``tokens``."""
        what = "cleared_tool_uses" if self.edit.type == CLEARS_TOOL_USES else "cleared_thinking_turns"
        return {"type": self.edit.type, what: self.cleared, "cleared_input_tokens": tokens}


def is_known(edit: ContextEdit) -> bool:
    """Whether ``edited`` can carry this edit out."""
    return edit.type in (CLEARS_TOOL_USES, CLEARS_THINKING)


def edited(edit: ContextEdit, messages: Sequence[Message], input_tokens: int) -> Edited | None:
    """What ``edit`` leaves of ``messages``, whose prompt has ``input_tokens``; None where there is nothing to clear."""
    if edit.type == CLEARS_TOOL_USES:
        return _without_tool_uses(edit, messages, input_tokens)
    return _without_thinking(edit, messages) if edit.type == CLEARS_THINKING else None


# -- tool uses --------------------------------------------------------------------------------------------------------


def _without_tool_uses(edit: ContextEdit, messages: Sequence[Message], input_tokens: int) -> Edited | None:
    uses = [block for message in messages for block in _blocks(message) if block.get("type") == "tool_use"]
    trigger = edit.trigger
    reached = len(uses) if trigger is not None and trigger.type == "tool_uses" else input_tokens
    if reached < (TRIGGER if trigger is None else trigger.value):
        return None
    kept = KEPT_USES if edit.keep is None or isinstance(edit.keep, str) else edit.keep.value or 0
    old = uses[: max(0, len(uses) - kept)]
    excluded = edit.exclude_tools or ()
    names = {use.get("id"): use.get("name") for use in old if use.get("name") not in excluded}
    inputs = edit.clear_tool_inputs
    listed = inputs if isinstance(inputs, list) else []
    cleared = 0

    def change(block: Block) -> Block:
        nonlocal cleared
        kind = block.get("type")
        if kind == "tool_result" and block.get("tool_use_id") in names and block.get("content") != NOTE:
            cleared += 1
            return {**block, "content": NOTE}
        if kind == "tool_use" and block.get("id") in names and (inputs is True or block.get("name") in listed):
            return {**block, "input": {}}
        return block

    changed = [_with(message, [change(block) for block in _blocks(message)]) for message in messages]
    return Edited(edit, changed, cleared) if cleared else None


# -- thinking ---------------------------------------------------------------------------------------------------------


def _without_thinking(edit: ContextEdit, messages: Sequence[Message]) -> Edited | None:
    keep = edit.keep
    if keep is not None and (isinstance(keep, str) or keep.type == "all"):
        return None
    kept = KEPT_THINKING_TURNS if keep is None else keep.value or 0
    turns = [turn for turn in _assistant_turns(messages) if any(_thinks(messages[index]) for index in turn)]
    old = {index for turn in turns[: max(0, len(turns) - kept)] for index in turn}
    if not old:
        return None
    changed = [
        _with(message, [block for block in _blocks(message) if not _is_thinking(block)]) if index in old else message
        for index, message in enumerate(messages)
    ]
    return Edited(edit, changed, len(turns) - kept)


def _assistant_turns(messages: Sequence[Message]) -> Iterator[list[int]]:
    """The places of the messages of each turn of the model: neighbours are one turn."""
    turn: list[int] = []
    for index, message in enumerate(messages):
        if message.get("role") == "assistant":
            turn.append(index)
        elif turn:
            yield turn
            turn = []
    if turn:
        yield turn


def _thinks(message: Message) -> bool:
    return any(_is_thinking(block) for block in _blocks(message))


def _is_thinking(block: Block) -> bool:
    return block.get("type") in ("thinking", "redacted_thinking")


# -- blocks -----------------------------------------------------------------------------------------------------------


def _blocks(message: Message) -> list[Block]:
    """The blocks of a message; what is no block is somebody else's to refuse."""
    content = message.get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _with(message: Message, blocks: list[Block]) -> Message:
    return {**message, "content": blocks} if isinstance(message.get("content"), list) else message
