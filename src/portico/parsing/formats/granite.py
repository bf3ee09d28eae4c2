"""IBM Granite. 3.x: a JSON list behind a marker, thoughts under English headings; 4.0: Hermes; 20B: a marker per call.

Here is my thought process:…Here is my response:…<|tool_call|>[{"name": "get_weather", "arguments": {…}}]
<function_call> {"name": "get_weather", "arguments": {…}}
"""

from portico.parsing.calls import Calls, JsonObject
from portico.parsing.family import Family, Reasoning

GRANITE = Family(
    "granite",
    models="Granite 3.0 to 3.3",
    tools={"granite": Calls(JsonObject(), section=("<|tool_call|>", "<tool_call>"), list=("[", ", ", "]"))},
    reasoning={
        "granite": Reasoning(
            ("Here is my thought process:", "Here's my thought process:"),
            ("Here is my response:", "Here's my response:"),
            leading=True,
        )
    },
    ends=("<|end_of_text|>",),
)
GRANITE4 = Family(
    "granite4",
    models="Granite 4.0",
    tools={"granite4": Calls(JsonObject(), open="<tool_call>\n", close="\n</tool_call>\n")},
    reasoning={"granite_thinking_parser": Reasoning("<think>", "</think>")},
    ends=("<|end_of_text|>",),
)
GRANITE_20B = Family(
    "granite-20b-fc",
    models="granite-20b-functioncalling",
    tools={"granite-20b-fc": Calls(JsonObject(), open="<function_call> ", list=("", "\n", ""))},
    ends=("<|endoftext|>",),
)
