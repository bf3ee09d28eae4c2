"""What a template can take, found by asking it.

A handful of tiny conversations are rendered once per template; what shows in the result, and what is refused, are the
facts that ``messages`` needs to fit a conversation to it. Where a template refuses even the plainest conversation
(because it wants inputs of its own), its syntax tree decides about the form of content and the rest is taken to be as
in any modern template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portico.errors import BadRequestError
from portico.prompting.syntax import read_syntax

__all__ = ["Ask", "Capabilities", "probe"]

Ask = Callable[
    [Sequence[Mapping[str, Any]], Mapping[str, Any]], str
]  # (messages, variables) -> text, or BadRequestError

ROLES = ("user", "system", "assistant", "tool")
CALL_ID = "a1b2c3d4e"  # nine letters and digits: what the strictest templates ask for
KEY, VALUE, SECOND = "askedkey", "askedvalue", "secondvalue"  # none of them in the declared tools but the key
NAMES = ("asked_first", "asked_second")


@dataclass(frozen=True)
class Capabilities:
    """A template's abilities. The defaults describe a modern text model."""

    strings: bool = True  # content as one text
    parts: frozenset[str] = frozenset()  # roles whose content may be a list of typed parts
    system: bool = True
    several_systems: bool = True  # more than one at the start
    late_systems: bool = True  # after the first user turn
    developer: bool = False
    same_role_twice: bool = True  # two user messages in a row
    tools: bool = True
    bare_tools: bool = True  # a tool may lack its description and parameters
    tool_role: bool = True
    parallel_calls: bool = True
    object_arguments: bool = True
    text_arguments: bool = True  # any text, JSON or not
    null_content: bool = False  # no content beside calls must be null, not empty
    reasoning_beside_calls: bool = True  # reasoning, content and calls in one turn
    thinking_parts: bool = False  # reasoning is a content part of type "thinking"
    short_call_ids: bool = False  # call ids are nine letters or digits, exactly


def probe(ask: Ask, source: str) -> Capabilities:
    """Find the abilities of the template behind ``ask``, whose Jinja text is ``source``.

    A template that prints any role, or any part, would print those of developers and thoughts too though its model
    never saw one; those count only where the source mentions them.
    """

    def shown(messages: Sequence[Mapping[str, Any]], *texts: str, tools: Any = None, end: bool = False) -> str | None:
        """The rendering, if it happens and shows ``texts`` in this order."""
        try:
            rendered = ask(messages, {"tools": tools, "documents": None, "add_generation_prompt": not end})
        except BadRequestError:
            return None
        at = 0
        for text in texts:
            at = rendered.find(text, at)
            if at < 0:
                return None
        return rendered

    def typed(text: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": text}]

    def takes_parts(messages: Sequence[Mapping[str, Any]], text: str, **how: Any) -> bool:
        rendered = shown(messages, text, **how)
        return rendered is not None and "'text'" not in rendered and '"text"' not in rendered

    strings = shown([{"role": "user", "content": "ASKED"}], "ASKED") is not None
    user_parts = takes_parts([{"role": "user", "content": typed("ASKED")}], "ASKED")
    if not strings and not user_parts:
        walks = read_syntax(source).content_format == "openai"
        return Capabilities(parts=frozenset(ROLES if walks else ()), developer="developer" in source)

    def says(role: str, text: str, **more: Any) -> dict[str, Any]:
        return {"role": role, "content": text if strings else typed(text), **more}

    user, answer, again = says("user", "ASKED"), says("assistant", "ANSWERED"), says("user", "AGAIN")
    parts = {"user"} if user_parts else set()
    if takes_parts([{"role": "system", "content": typed("RULED")}, user], "RULED"):
        parts.add("system")
    if takes_parts([user, {"role": "assistant", "content": typed("ANSWERED")}, again], "ANSWERED"):
        parts.add("assistant")

    def call(k: int, arguments: Any, call_id: str = CALL_ID) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": NAMES[k], "arguments": arguments}}

    def calling(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"role": "assistant", "content": "" if strings else [], "tool_calls": list(calls), **more}

    def result(k: int, text: str, call_id: str = CALL_ID) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": call_id, "name": NAMES[k], "content": text if strings else typed(text)}

    declared = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": "Asks.",
                "parameters": {"type": "object", "properties": {KEY: {"type": "string", "description": "What."}}},
            },
        }
        for name in NAMES
    ]
    mapping, second = {KEY: VALUE}, {KEY: SECOND}
    text = json.dumps(mapping)

    as_object = shown([user, calling(call(0, mapping)), result(0, "RESULT")], NAMES[0], KEY, VALUE, tools=declared)
    as_null = shown(
        [user, calling(call(0, mapping), content=None), result(0, "RESULT")], NAMES[0], KEY, VALUE, tools=declared
    )
    null_content = as_object is None and as_null is not None
    as_object = as_object or as_null
    empty: dict[str, Any] = {"content": None} if null_content else {}
    as_text = shown([user, calling(call(0, text), **empty), result(0, "RESULT")], NAMES[0], KEY, VALUE, tools=declared)
    if as_text is None and as_object is None:
        empty = {"content": None}
        as_text = shown(
            [user, calling(call(0, text), **empty), result(0, "RESULT")], NAMES[0], KEY, VALUE, tools=declared
        )
        null_content = as_text is not None
        empty = empty if null_content else {}
    object_arguments = (as_object is not None and str(mapping) not in as_object) or as_text is None
    argued, also = (mapping, second) if object_arguments else (text, json.dumps(second))
    any_text = shown([user, calling(call(0, "no JSON"), **empty), result(0, "RESULT")], "no JSON", tools=declared)
    typed_result = {**result(0, ""), "content": typed("RESULT")}
    if takes_parts([user, calling(call(0, argued), **empty), typed_result], "RESULT", tools=None):
        parts.add("tool")
    one = shown([user, calling(call(0, argued), **empty), result(0, "RESULT")], VALUE, tools=declared)
    two = shown(
        [
            user,
            calling(call(0, argued), call(1, also, "e4d3c2b1a"), **empty),
            result(0, "RESULT"),
            result(1, "RESULT", "e4d3c2b1a"),
        ],
        VALUE,
        SECOND,
        tools=declared,
    )
    long_id = "call_0123456789abcdef"
    long_ids = shown(
        [user, calling(call(0, argued, long_id), **empty), result(0, "RESULT", long_id)], VALUE, tools=declared
    )
    spoken = {**calling(call(0, argued)), "content": "SPOKEN" if strings else typed("SPOKEN")}
    thought = {"reasoning_content": "THOUGHT", "reasoning": "THOUGHT", "thinking": "THOUGHT"}
    beside = shown([user, {**spoken, **thought}, result(0, "RESULT")], tools=declared)
    thinking = [{"type": "thinking", "thinking": "THOUGHT"}, *typed("ANSWERED")]
    thinking_parts = shown([user, {"role": "assistant", "content": thinking}], "THOUGHT", "ANSWERED", end=True)
    plain_thought = shown([user, {**answer, **thought}], "THOUGHT", end=True)

    return Capabilities(
        strings=strings,
        parts=frozenset(parts),
        system=shown([says("system", "RULED"), user], "RULED") is not None,
        several_systems=shown([says("system", "RULED"), says("system", "LAW"), user], "RULED", "LAW") is not None,
        late_systems=shown([says("system", "RULED"), user, answer, says("system", "LAW"), again], "ANSWERED", "LAW")
        is not None,
        developer="developer" in source and shown([says("developer", "RULED"), user], "RULED") is not None,
        same_role_twice=shown([user, again], "ASKED", "AGAIN") is not None
        or shown([user, answer, again], "ASKED", "AGAIN") is None,
        tools=shown([user], NAMES[0], tools=declared) is not None,
        bare_tools=shown([user], tools=[{"type": "function", "function": {"name": NAMES[0]}}]) is not None,
        tool_role=shown([user, calling(call(0, argued), **empty), result(0, "RESULT")], "RESULT", tools=declared)
        is not None,
        parallel_calls=two is not None or one is None,
        object_arguments=object_arguments,
        text_arguments=any_text is not None,
        null_content=null_content,
        reasoning_beside_calls=beside is not None or shown([user, spoken, result(0, "RESULT")], tools=declared) is None,
        thinking_parts="thinking" in source
        and thinking_parts is not None
        and "'text'" not in thinking_parts
        and plain_thought is None,
        short_call_ids=long_ids is None and one is not None,
    )
