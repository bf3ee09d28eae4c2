"""Python calls: Llama 3.2, Llama 4, ToolACE (a list), Olmo 3 (a line each), LFM2 (a list between tokens).

[get_weather(city='Oslo', days=3), ping()]
"""

from portico.parsing.bodies import Headed, JsonObject
from portico.parsing.calls import Calls
from portico.parsing.either import Either
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.keywords import Keyword
from portico.parsing.strings import PYTHON

CALL = Headed("{name}", Keyword(PYTHON))
LIST = ("[", ", ", "]")

PYTHONIC = Family(
    "pythonic",
    models="Llama 3.2 1B and 3B, ToolACE-8B, Llama 4",
    tools={
        "pythonic": Calls(CALL, list=LIST, plain=True),
        "llama4_pythonic": Calls(
            CALL, section="<|python_start|>", section_close="<|python_end|>", list=LIST, plain=True, bare=True
        ),
    },
    ends=("<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|eom|>"),
    clues=(
        Clues(("<|python_start|>", "<|header_start|>", "func_name1"), tools="llama4_pythonic"),
        Clues(("func_name1(params_name1=",), never=("<|python_start|>",), tools="pythonic"),
    ),
)
OLMO3 = Family(
    "olmo3",
    models="Olmo 3, 3.1",
    tools={
        "olmo3": Calls(CALL, section="<function_calls>\n", section_close="\n</function_calls>", list=("", "\n", ""))
    },
    reasoning={"olmo3": Reasoning("<think>", "</think>")},
    ends=("<|im_end|>", "<|endoftext|>"),
    clues=(
        Clues(("<function_calls>", "<functions>"), tools="olmo3"),
        Clues(("<functions>", "<think>"), reasoning="olmo3"),
    ),
)
LFM2 = Family(
    "lfm2",
    models="LFM2, LFM2.5, openPangu 2",
    tools={
        name: Either(
            (
                Calls(JsonObject(), section="<|tool_call_start|>", section_close="<|tool_call_end|>", list=LIST),
                Calls(CALL, section="<|tool_call_start|>", section_close="<|tool_call_end|>", list=LIST),
            )
        )
        for name in ("lfm2", "pangu_v2")
    },
    ends=("<|im_end|>",),
    clues=(
        Clues(("<|tool_list_start|>",), tools="lfm2"),
        Clues(("<|tool_call_start|>",), tools="lfm2"),
        Clues(("List of tools: [", "<|im_start|>"), never=("<tool_call>",), tools="lfm2"),
    ),
)
