"""InternLM 2 and 2.5: one JSON call behind two tokens.

…text<|action_start|><|plugin|>
{"name": "get_weather", "parameters": {"city": "Oslo"}}<|action_end|>
"""

from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family

INTERNLM = Family(
    "internlm",
    models="InternLM2, InternLM2.5",
    tools={
        "internlm": Calls(
            JsonObject(arguments=("parameters", "arguments")),
            open="<|action_start|><|plugin|>\n",
            close="<|action_end|>\n",
        )
    },
    ends=("<|im_end|>",),
    clues=(Clues(("<|action_start|>", "<|plugin|>"), tools="internlm"),),
)
