"""Gemma 4 and FunctionGemma: literals with bare keys, and a token of their own around strings."""

from portico.parsing.arguments import Keyword
from portico.parsing.calls import Calls, Headed
from portico.parsing.family import Family, Reasoning
from portico.parsing.literals import Dialect

GEMMA4 = Family(
    "gemma4",
    models="Gemma 4",
    tools={
        "gemma4": Calls(
            Headed(
                "«call»:{name}",
                Keyword(Dialect(('<|"|>',), bare_keys=True), ("{}", "()"), ":", '<|"|>', ",", typed=True),
            ),
            open="<|tool_call>",
            close=("<tool_call|>", "<turn|>", "<|tool_response>"),
        )
    },
    reasoning={"gemma4": Reasoning("<|channel>thought\n", "<channel|>")},
    ends=("<turn|>", "<|tool_response>"),
)
FUNCTIONGEMMA = Family(
    "functiongemma",
    models="FunctionGemma 270M",
    tools={
        "functiongemma": Calls(
            Headed(
                "call:{name}",
                Keyword(Dialect(("<escape>",), bare_keys=True), ("{}",), ":", "<escape>", ",", typed=True),
            ),
            open="<start_function_call>",
            close="<end_function_call>",
        )
    },
    ends=("<end_of_turn>",),
)
