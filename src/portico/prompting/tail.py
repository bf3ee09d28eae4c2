"""Where the answer starts: the part of a rendered prompt that says whether a thought is already open.

That is everything from the last assistant header on, and nothing before it: a ``<think>`` in a question, or in an
earlier answer, opens nothing. How a template spells the header is learned by letting it answer a question twice, once
to be generated and once given: what both put between question and answer is the header, after a question and after a
tool result. A prompt whose template taught us nothing is searched for the headers that most families use; without one
of those, only the markup at its very end counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from portico.errors import BadRequestError
from portico.prompting.capabilities import Ask, Capabilities

__all__ = ["learn_headers", "prompt_tail"]

COMMON_HEADERS = re.compile(
    r"<\|im_start\|>assistant|<\|start_header_id\|>assistant<\|end_header_id\|>|<\|start\|>assistant"
    r"|<[|｜][^<>|｜\n]{0,24}[Aa]ssistant[^<>|｜\n]{0,24}[|｜]>|<start_of_turn>model|<\|turn>model|<\|CHATBOT_TOKEN\|>"
    r"|\[/INST\]|<\|im_assistant\|>"
)
MARKUP_AT_END = re.compile(r"(?:<[^<>\n]{1,60}>|\[[A-Z_/]{1,30}\]|\s)*\Z")
THOUGHT = re.compile(r"[<\[◁][^<>\[\]]{0,12}(?:think|channel)", re.IGNORECASE)
HALF_A_TAG = re.compile(r"[<\[][^<>\[\]]*\Z")
CALL_ID = "a1b2c3d4e"


def prompt_tail(rendered: str, headers: Sequence[str] = ()) -> str:
    """The end of ``rendered``, from the last assistant header on."""
    at = max((rendered.rfind(header) for header in headers if header), default=-1)
    if at >= 0:
        return rendered[at:]
    for header in COMMON_HEADERS.finditer(rendered):
        at = header.start()
    if at >= 0:
        return rendered[at:]
    last = rendered[-256:]
    markup = MARKUP_AT_END.search(last)
    return markup.group() if markup else ""


def learn_headers(ask: Ask, takes: Capabilities) -> tuple[str, ...]:
    """The assistant headers of the template behind ``ask``, as they follow a question and a tool result."""

    def says(role: str, text: str) -> dict[str, object]:
        return {"role": role, "content": text if takes.strings else [{"type": "text", "text": text}]}

    def between(messages: list[dict[str, object]], text: str) -> list[str]:
        """What opens an answer after ``text``: whether given or to be generated, and when it is to be generated."""
        plain = {"tools": None, "documents": None}
        try:
            open_end = ask(messages, {**plain, "add_generation_prompt": True})
            given = ask([*messages, says("assistant", "ANSWERED")], {**plain, "add_generation_prompt": False})
        except BadRequestError:
            return []
        start, stop = given.rfind(text), given.rfind("ANSWERED")
        if start < 0 or stop < start or text not in open_end:
            return []
        opening = open_end[open_end.rfind(text) + len(text) :]
        return [_header(_shared_start(opening, given[start + len(text) : stop])), _header(opening)]

    arguments: object = {"key": "value"} if takes.object_arguments else '{"key": "value"}'
    call = {"id": CALL_ID, "type": "function", "function": {"name": "asked", "arguments": arguments}}
    empty = None if takes.null_content else ("" if takes.strings else [])
    calling: dict[str, object] = {"role": "assistant", "content": empty, "tool_calls": [call]}
    result = {**says("tool", "RESULTED"), "tool_call_id": CALL_ID, "name": "asked"}
    after_question = between([says("user", "ASKED")], "ASKED")
    after_result = between([says("user", "ASKED"), calling, result], "RESULTED") if takes.tool_role else []
    return tuple({header: None for header in after_question + after_result if len(header.strip()) > 1})


def _header(text: str) -> str:
    """``text`` up to the first sign of a thought, without what belongs to one call alone."""
    text = text.rpartition(CALL_ID)[2]
    end = THOUGHT.search(text) or HALF_A_TAG.search(text)
    return text[: end.start()] if end else text


def _shared_start(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return one[:length]
