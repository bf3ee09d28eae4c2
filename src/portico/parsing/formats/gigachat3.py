"""GigaChat 3: one JSON call behind a header of tokens and words, or, in newer checkpoints, behind one token.

    …text<|message_sep|>

    function call<|role_sep|>
    {"name": "get_weather", "arguments": {"city": "Москва"}}

Strings may hold raw control characters; these are escaped on their way out.
"""

from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family

GIGACHAT3 = Family(
    "gigachat3",
    models="GigaChat 3, 3.1",
    tools={
        "gigachat3": Calls(JsonObject(), open=("<|message_sep|>\n\nfunction call<|role_sep|>\n", "<|function_call|>"))
    },
    ends=("</s>", "<|message_sep|>"),
    clues=(
        Clues(("<|message_sep|>", "function call", "<|role_sep|>"), never=("｜GCML｜",), tools="gigachat3"),
        Clues(("<|function_call|>", "<|role_sep|>"), never=("｜GCML｜",), tools="gigachat3"),
    ),
)
