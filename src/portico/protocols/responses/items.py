"""Items that a client sends, as they are kept and given back: each with a type, an id and a status.

Text is put into parts, since that is how OpenAI's API gives messages back however they came. What an item means is read
in ``conversation``; an unknown type is kept as it is, for a client that knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from portico.errors import BadRequestError
from portico.protocols.kinds import LIST, TEXT, Kinds
from portico.protocols.responses.ids import LONGEST_ID, item_id

__all__ = ["REFERENCE", "Item", "check_items", "kept_items", "kind_of", "references", "thoughts_without_text"]

Item: TypeAlias = dict[str, Any]

REFERENCE = "item_reference"
_WITH_STATUS = ("message", "function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call")
_NOT_KEPT = ("compaction_trigger", REFERENCE)  # they say what is to be done, and are done


def kind_of(item: Mapping[str, Any]) -> str:
    """The type of an item, which messages and references may leave out."""
    kind = item.get("type")
    if isinstance(kind, str):
        return kind
    return REFERENCE if "id" in item and "role" not in item else "message"


_ITEM = Kinds({"type": TEXT, "id": TEXT, "status": TEXT, "phase": TEXT})
_PART = Kinds({"type": TEXT, "annotations": LIST, "logprobs": LIST})
_MESSAGE = Kinds({"content": TEXT + LIST}, {"content": _PART})


def check_items(items: Sequence[Item], where: str = "input") -> None:
    """Raise ``BadRequestError`` for what would be kept, and is of another kind than its field or says nothing."""
    _ITEM.check(items, where)
    for index, item in enumerate(items):
        if kind_of(item) == "message":
            _MESSAGE.check(item, f"{where}[{index}]")
            if item.get("content") is None and item.get("role") != "assistant":
                param = f"{where}[{index}].content"
                raise BadRequestError(f"{param} must be text or a list of parts.", param=param)


def references(items: Sequence[Item], where: str = "input") -> list[tuple[int, str]]:
    """Where the items point to others, and to which."""
    found: list[tuple[int, str]] = []
    for index, item in enumerate(items):
        if kind_of(item) == REFERENCE:
            id = item.get("id")
            if not isinstance(id, str) or not 0 < len(id) <= LONGEST_ID:
                param = f"{where}[{index}].id"
                raise BadRequestError(f"{param} must be the id of an item.", param=param)
            found.append((index, id))
    return found


def thoughts_without_text(items: Sequence[Item]) -> list[tuple[int, str]]:
    """Where thoughts come back by their id alone, as clients send them that trust the server to have kept them."""
    return [
        (index, item["id"])
        for index, item in enumerate(items)
        if item.get("type") == "reasoning"
        and isinstance(item.get("id"), str)
        and not item.get("content")
        and not item.get("encrypted_content")
    ]


def kept_items(items: Iterable[Item]) -> list[Item]:
    """The items in the form in which they are kept."""
    return [_kept(item) for item in items if kind_of(item) not in _NOT_KEPT]


def _kept(item: Item) -> Item:
    kind = kind_of(item)
    id = item.get("id")
    kept: Item = {**item, "type": kind}
    kept["id"] = id if isinstance(id, str) and 0 < len(id) <= LONGEST_ID else item_id(kind)
    if kind in _WITH_STATUS and not isinstance(item.get("status"), str):
        kept["status"] = "completed"
    content = item.get("content")
    if kind == "message":
        assistant = item.get("role") == "assistant"
        if isinstance(content, str):
            content = [{"type": "output_text" if assistant else "input_text", "text": content}]
        kept["content"] = [_part(part) for part in content] if isinstance(content, list) else []
    return kept


def _part(part: Any) -> Any:
    """Texts of assistants have annotations and logprobs, whoever gives them back."""
    if isinstance(part, dict) and part.get("type") == "output_text":
        return {**part, "annotations": part.get("annotations") or [], "logprobs": part.get("logprobs") or []}
    return part
