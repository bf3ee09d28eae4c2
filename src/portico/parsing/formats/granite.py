"""IBM Granite. 3.x: a JSON list behind a marker, thoughts under English headings; 4.0: Hermes; 20B: a marker per call.

3.3 and 4.0 H-Small also write a line of Python for every call, with nothing around it. No template shows that, so it is
asked for by name.

Here is my thought process:…Here is my response:…<|tool_call|>[{"name": "get_weather", "arguments": {…}}]
<function_call> {"name": "get_weather", "arguments": {…}}
get_weather(city="Oslo", days=3)
"""

from portico.parsing.bodies import Headed, JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.keywords import Keyword
from portico.parsing.strings import PYTHON

GRANITE = Family(
    "granite",
    models="Granite 3.0 to 3.3",
    tools={
        "granite": Calls(JsonObject(), section=("<|tool_call|>", "<tool_call>"), list=("[", ", ", "]")),
        "granite_pythonic": Calls(Headed("{name}", Keyword(PYTHON)), list=("", "\n", ""), lines=True, in_thought=False),
    },
    reasoning={
        "granite": Reasoning(
            ("Here is my thought process:", "Here's my thought process:"),
            ("Here is my response:", "Here's my response:"),
            leading=True,
        )
    },
    ends=("<|end_of_text|>",),
    clues=(
        Clues(("<|tool_call|>",), some=("<|start_of_role|>", "<|start_role|>"), tools="granite"),
        Clues(("<|start_of_role|>", "<tool_call>"), never=("</tool_call>",), tools="granite"),
        Clues(("Here is my thought process:",), reasoning="granite"),
    ),
)
GRANITE4 = Family(
    "granite4",
    models="Granite 4.0",
    tools={"granite4": Calls(JsonObject(), open="<tool_call>\n", close="\n</tool_call>\n")},
    reasoning={"granite_thinking_parser": Reasoning("<think>", "</think>", wrappers=(("<response>", "</response>"),))},
    ends=("<|end_of_text|>",),
    clues=(
        Clues(("<|start_of_role|>", "<tool_call>", "</tool_call>"), tools="granite4"),
        Clues(("<|start_of_role|>", "<think>"), reasoning="granite_thinking_parser"),
    ),
)
GRANITE_20B = Family(
    "granite-20b-fc",
    models="granite-20b-functioncalling",
    tools={"granite-20b-fc": Calls(JsonObject(), open="<function_call> ", list=("", "\n", ""))},
    ends=("<|endoftext|>",),
    clues=(Clues(("<function_call> ",), never=("<start_function_call>",), tools="granite-20b-fc"),),
)
