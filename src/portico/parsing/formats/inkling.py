"""Inkling: typed blocks, each closed; the function's name may be repeated in front of a call's block.

    <|content_thinking|>…<|end_message|><|message_model|><|content_text|>…<|end_message|><|message_model|>get_weather
    <|content_invoke_tool_json|>{"name": "get_weather", "args": {"city": "Oslo"}}<|end_message|>

Blocks come in any order and number. An invocation in free text, or an error, is text.
"""

from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family
from portico.parsing.messages import Messages, Route

THINKING, CALL = "<|content_thinking|>", "<|content_invoke_tool_json|>"


def _route(head: str, marker: str) -> Route:
    return Route("reasoning" if marker == THINKING else "call" if marker == CALL else "content")


INKLING_MESSAGES = Messages(
    start=("<|message_model|>",),
    head_end=(THINKING, "<|content_text|>", CALL, "<|content_invoke_tool_text|>", "<|content_tool_error|>"),
    body_end=("<|end_message|>",),
    ends=("<|content_model_end_sampling|>",),
    route=_route,
    thought=(THINKING, "<|end_message|>", "<|message_model|>"),
    opener=CALL,
    answer="<|content_text|>",
    calls=Calls(
        JsonObject(arguments=("args", "arguments")),
        open=CALL,
        close="<|end_message|>",
        list=("", "<|message_model|>", ""),
    ),
)

INKLING = Family(
    "inkling",
    models="Inkling",
    tools={"inkling": INKLING_MESSAGES},
    reasoning={"inkling": INKLING_MESSAGES},
    clues=(Clues(("<|content_invoke_tool_json|>",), tools="inkling", reasoning="inkling"),),
)
