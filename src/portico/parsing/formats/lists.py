"""Families that differ only in the markers around a JSON list of calls.

<tool_calls>[{"name": "get_weather", "arguments": {"city": "Oslo"}}, {"name": "ping", "arguments": {}}]</tool_calls>
"""

from portico.parsing.bodies import JsonObject, SingleKey
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.literals import PYTHON

LIST = ("[", ", ", "]")
TOOL_CALLS = Calls(JsonObject(), section="<tool_calls>", section_close="</tool_calls>", list=LIST)

JAMBA = Family(
    "jamba",
    models="Jamba 1.5, 1.6, 1.7",
    tools={"jamba": TOOL_CALLS},
    ends=("<|eom|>", "<|endoftext|>"),
    clues=(Clues(("<tool_calls>", "<|bom|>"), tools="jamba"),),
)
APRIEL = Family(
    "apriel15",
    models="Apriel 1.5",
    tools={"apriel15": TOOL_CALLS},
    reasoning={
        "apriel15": Reasoning(
            "Here are my reasoning steps:\n",
            "[BEGIN FINAL RESPONSE]\n",
            leading=True,
            wrappers=(("", "[END FINAL RESPONSE]"),),
        )
    },
    ends=("<|end|>",),
    clues=(
        Clues(("<tool_calls>", "[BEGIN FINAL RESPONSE]"), tools="apriel15"),
        Clues(("[BEGIN FINAL RESPONSE]",), reasoning="apriel15"),
    ),
)
PHI4 = Family(
    "phi4_mini_json",
    models="Phi-4-mini",
    tools={"phi4_mini_json": Calls(JsonObject(), section="functools", list=LIST)},
    ends=("<|end|>", "<|/tool_call|>"),
    clues=(Clues(("<|tool|>", "<|/tool|>"), some=("functools[",), tools="phi4_mini_json"),),
)
FIREFUNCTION = Family(
    "firefunction_v2",
    models="FireFunction 2",
    tools={"firefunction_v2": Calls(JsonObject(), section=" functools", list=LIST)},
    ends=("<|eot_id|>",),
    clues=(Clues((" functools[",), never=("<|tool|>",), tools="firefunction_v2"),),
)
NEMOTRON_DECI = Family(
    "nemotron_deci",
    models="Llama-Nemotron, Nemotron Nano 2",
    tools={"nemotron_deci": Calls(JsonObject(), section="<TOOLCALL>", section_close="</TOOLCALL>", list=LIST)},
    reasoning={"nemotron_deci": Reasoning("<think>\n", "\n</think>\n\n")},
    ends=("<|eot_id|>", "<SPECIAL_12>"),
    clues=(
        Clues(("<TOOLCALL>",), tools="nemotron_deci"),
        Clues(("<TOOLCALL>", "<think>"), reasoning="nemotron_deci"),
    ),
)
SARASHINA = Family(
    "sarashina",
    models="Sarashina 2.2",
    tools={"sarashina": Calls(JsonObject(python=PYTHON), section="<|tool_calls|>", list=LIST)},
    ends=("</s>", "<|eos|>"),
    clues=(Clues(("<|tool_calls|>",), some=("<|available_tools|>", "<|tool_results|>"), tools="sarashina"),),
)
APERTUS = Family(
    "apertus",
    models="Apertus 2509",
    tools={"apertus": Calls(SingleKey(), section="<|tools_prefix|>", section_close="<|tools_suffix|>", list=LIST)},
    reasoning={"apertus": Reasoning("<|inner_prefix|>", "<|inner_suffix|>")},
    ends=("<|assistant_end|>",),
    clues=(
        Clues(("<|tools_prefix|>",), tools="apertus"),
        Clues(("<|inner_prefix|>",), reasoning="apertus"),
    ),
)
XLAM = Family(
    "xlam",
    models="xLAM, Llama-xLAM-2",
    tools={
        "xlam": Calls(
            JsonObject(),
            section=("", "```json", "```", "[TOOL_CALLS]", "<tool_call>"),
            section_close=("", "```", "</tool_call>"),
            list=LIST,
            plain=True,
            bare=True,
        )
    },
    ends=("<|im_end|>", "<|eot_id|>"),
    clues=(Clues(("The output MUST strictly adhere to the following JSON format", "[TOOL_CALLS]"), tools="xlam"),),
)
JSON = Family(
    "json",
    models="any model constrained to a JSON list of calls",
    tools={"json": Calls(JsonObject(arguments=("parameters", "arguments")), list=LIST, plain=True, bare=True)},
)
