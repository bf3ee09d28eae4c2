"""ERNIE 4.5: Hermes calls set apart by blank lines; the answer may stand between response tags.

…thoughts
</think>


<response>
…answer
</response>


<tool_call>
{"name": "get_weather", "arguments": {"city": "Oslo"}}
</tool_call>
"""

from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning

ERNIE45 = Family(
    "ernie45",
    models="ERNIE-4.5 thinking",
    tools={"ernie45": Calls(JsonObject(), open="<tool_call>\n", close="\n</tool_call>\n", list=("", "\n\n\n", ""))},
    reasoning={
        "ernie45": Reasoning("<think>\n", "\n</think>\n\n\n", wrappers=(("<response>", "</response>"),)),
    },
    ends=("</s>", "<|end_of_sentence|>"),
    clues=(Clues(("<|begin_of_sentence|>", "<tool_call>", "<response>"), tools="ernie45", reasoning="ernie45"),),
)
