"""Harmony (gpt-oss): messages on channels; a call is a message to a function.

    <|channel|>analysis<|message|>…<|end|><|start|>assistant
    <|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Oslo"}<|call|>

The analysis channel is reasoning; commentary to nobody is a preamble that users see. Built-in tools (``python``,
``browser.*``) are the model's own: what it sends them is part of its reasoning.
"""

import re

from portico.parsing.arguments import Json
from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family
from portico.parsing.messages import Messages, Route

_RECIPIENT = re.compile(r"to=([^\s<]+)")


def _route(head: str, marker: str) -> Route:
    recipient = _RECIPIENT.search(head)
    if recipient and recipient[1].startswith("functions."):
        return Route("call", recipient[1].removeprefix("functions."))
    if recipient and recipient[1] not in ("user", "assistant", "all"):
        return Route("reasoning", recipient[1])
    channel = head.rpartition("<|channel|>")[2].split(" ")[0].split("<")[0].strip()
    return Route("reasoning" if channel == "analysis" else "content")


HARMONY_MESSAGES = Messages(
    start=("<|start|>assistant", "<|start|>"),
    head_end=("<|message|>",),
    body_end=("<|end|>", "<|return|>", "<|call|>"),
    begins=("<|channel|>", "<|constrain|>", "<|message|>", "to="),
    route=_route,
    thought=("<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant"),
    opener="<|channel|>commentary to=functions.",
    answer="<|channel|>final<|message|>",
    calls=Calls(
        Headed("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>", Json(), "<|call|>"),
        list=("", "<|start|>assistant", ""),
    ),
)

HARMONY = Family(
    "harmony",
    models="gpt-oss-20b, gpt-oss-120b",
    tools={"openai": HARMONY_MESSAGES, "gpt-oss": HARMONY_MESSAGES},
    reasoning={"openai_gptoss": HARMONY_MESSAGES, "gpt-oss": HARMONY_MESSAGES},
    clues=(Clues(("<|channel|>", "<|message|>", "<|start|>"), tools="openai", reasoning="openai_gptoss"),),
)
