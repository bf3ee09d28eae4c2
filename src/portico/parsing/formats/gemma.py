"""Gemma 4 and FunctionGemma: literals with bare keys, and a token of their own around strings.

<|tool_call>call:get_weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|>
<start_function_call>call:get_weather{city:<escape>Oslo<escape>,days:3}<end_function_call>
"""

from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.keywords import Keyword
from portico.parsing.strings import Dialect


def _arguments(quote: str, *brackets: str) -> Keyword:
    return Keyword(Dialect((quote,), bare_keys=True), brackets, ":", quote, ",", typed=True)


GEMMA4 = Family(
    "gemma4",
    models="Gemma 4",
    tools={
        "gemma4": Calls(
            Headed("«call»:{name}", _arguments('<|"|>', "{}", "()")),
            open="<|tool_call>",
            close=("<tool_call|>", "<turn|>", "<|tool_response>"),
        )
    },
    reasoning={"gemma4": Reasoning("<|channel>thought\n", "<channel|>")},
    ends=("<turn|>", "<|tool_response>"),
    clues=(
        Clues(("<|tool_call>",), some=('<|"|>', "<|turn>"), tools="gemma4"),
        Clues(("<|channel>",), reasoning="gemma4"),
    ),
)
FUNCTIONGEMMA = Family(
    "functiongemma",
    models="FunctionGemma 270M",
    tools={
        "functiongemma": Calls(
            Headed("call:{name}", _arguments("<escape>", "{}")),
            open="<start_function_call>",
            close="<end_function_call>",
        )
    },
    ends=("<end_of_turn>", "<start_function_response>"),
    clues=(Clues(("<start_function_call>",), tools="functiongemma"),),
)
