"""Compaction: what the model writes down of a conversation takes its place.

The summary is one more answer of the same model to the same prompt with one more message behind it, so that all but
that message is in the engine's prefix cache. It travels sealed (see ``sealing``), and stands for everything before it
but the users' own messages, which stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from portico.errors import EngineError
from portico.events import Content, Event, Reasoning, SamplingParams
from portico.generation import Generation, GenerationSpec, Model, Usage
from portico.prompting import Prompt
from portico.protocols.openai.sampling import max_new_tokens
from portico.protocols.places import Origin
from portico.protocols.responses.ids import item_id, new_id
from portico.protocols.responses.items import Item, kind_of
from portico.protocols.responses.mcp import Told
from portico.protocols.responses.request import Asked
from portico.protocols.responses.response import usage_body
from portico.protocols.responses.sealing import Sealer

__all__ = [
    "COMPACTING",
    "Summary",
    "compacted",
    "compaction_object",
    "split",
    "summarizing",
    "summary_generation",
    "triggered",
]

TRIGGER = "compaction_trigger"
COMPACTING: Told = [("response.compaction.compacting", {})]  # the events of its item
MOST_TOKENS = 8192  # of a summary, thoughts included
REQUEST = (
    "Stop here. Sum up this conversation for somebody who has to go on with it and will see nothing of it but your "
    "words and the messages of the user: what the user wants, what was decided and why, what was found out (names, "
    "paths, numbers and code exactly as they are), what has been done, and what is to be done next. Write the summary "
    "alone."
)


class Summary:
    """Collects what the model writes down."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._thoughts: list[str] = []

    def feed(self, events: Sequence[Event]) -> None:
        """Take the events of one delta."""
        for event in events:
            if type(event) is Content:
                self._content.append(event.text)
            elif type(event) is Reasoning:
                self._thoughts.append(event.text)

    def item(self, sealer: Sealer) -> Item:
        """It as an item. Raises ``EngineError`` where there is none."""
        text = "".join(self._content).strip() or "".join(self._thoughts).strip()
        if not text:
            raise EngineError("The model has written no summary of the conversation.")
        return {"id": item_id("compaction"), "type": "compaction", "encrypted_content": sealer.seal(text, "compaction")}


def triggered(items: Sequence[Item]) -> bool:
    """Whether the request wants nothing but a compaction."""
    return any(kind_of(item) == TRIGGER for item in items)


def split(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """What can be summed up, and what the model has still to answer: a last message of the user."""
    last = (
        len(items) - 1 if items and kind_of(items[-1]) == "message" and items[-1].get("role") == "user" else len(items)
    )
    return list(items[:last]), list(items[last:])


def compacted(items: Sequence[Item], item: Item) -> list[Item]:
    """The conversation in short: what its users have said, and the summary."""
    said = [one for one in items if kind_of(one) == "message" and one.get("role") == "user"]
    return [*said, item]


def summarizing(asked: Asked) -> Asked:
    """The request that is answered with a summary."""
    found = asked.conversation
    conversation = replace(
        found,
        messages=[*found.messages, {"role": "user", "content": REQUEST}],
        origins=[*found.origins, Origin(["input"])],
    )
    return replace(asked, conversation=conversation, response_format=None)


def summary_generation(prompt: Prompt, model: Model, request_id: str) -> Generation:
    """What the engine is asked for it. Raises ``ContextLengthError``."""
    room = max_new_tokens(len(prompt.token_ids), MOST_TOKENS, model, "input")
    spec = GenerationSpec(
        request_id=request_id,
        prompt_ids=prompt.token_ids,
        media=prompt.perceived,
        prompt_tail=prompt.tail,
        sampling=SamplingParams(max_tokens=room, temperature=0.0),
        reasoning_parser=model.reasoning_parser,
        tool_choice="none",
        lora=model.lora,
    )
    return Generation(spec, model.tokenizer)


def compaction_object(output: Sequence[Item], created: int, usage: Usage) -> dict[str, Any]:
    """The answer of POST /v1/responses/compact."""
    return {
        "id": new_id("resp"),
        "object": "response.compaction",
        "created_at": created,
        "output": list(output),
        "usage": usage_body([usage]),
    }
