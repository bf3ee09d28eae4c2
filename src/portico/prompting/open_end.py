"""``continue_final_message``: the last message is left open, and the model goes on with it.

A mark is put at the end of its text, and the rendered prompt ends where the mark came out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico.errors import BadRequestError
from portico.prompting.said import Voices, disowned

__all__ = ["REASONING_NAMES", "cut_open_end", "open_end"]

REASONING_NAMES = ("reasoning_content", "thinking", "reasoning")  # the first is what templates read
OPEN_END = "\ue0e5OPEN_END\ue0e5 "  # the trailing blank tells whether the template trims


def open_end(
    messages: Sequence[Mapping[str, Any]], field: bool | str, voices: Voices | None = None
) -> list[Mapping[str, Any]]:
    """The messages with the end of the last one's text marked. With ``voices`` its texts are ``Said``."""
    if not messages:
        raise BadRequestError("There is no message to continue.", param="continue_final_message")

    def opened(text: str) -> str:
        return (text if voices is None else disowned(text, voices.own)) + OPEN_END

    *before, final = messages
    last = dict(final)
    if not isinstance(field, str):
        field = "content" if last.get("content") or "reasoning_content" not in last else "reasoning_content"
    content = last.get(field)
    if isinstance(content, list):
        for index in range(len(content) - 1, -1, -1):
            part = content[index]
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                last[field] = [*content[:index], {**part, "text": opened(part["text"])}, *content[index + 1 :]]
                return [*before, last]
        content = None
    if not isinstance(content, str):
        raise BadRequestError(
            f"continue_final_message needs text in the last message's {field[:64]}.", param="continue_final_message"
        )
    names = [n for n in REASONING_NAMES if last.get(n) == content] if field in REASONING_NAMES else [field]
    for name in names:
        last[name] = opened(content)
    return [*before, last]


def cut_open_end(text: str) -> str:
    """The text up to the mark."""
    mark = OPEN_END.strip()
    at = text.rfind(mark)
    if at < 0:
        raise BadRequestError(
            "continue_final_message: the chat template does not show how the last message ends.",
            param="continue_final_message",
        )
    kept_blank = text.startswith(OPEN_END, at)
    return text[:at] if kept_blank else text[:at].rstrip()
