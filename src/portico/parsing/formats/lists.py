"""Families that differ only in the markers around a JSON list of calls.

<tool_calls>[{"name": "get_weather", "arguments": {"city": "Oslo"}}, {"name": "ping", "arguments": {}}]</tool_calls>
"""

from portico.parsing.calls import Calls, JsonObject, SingleKey
from portico.parsing.family import Family, Reasoning
from portico.parsing.literals import PYTHON

LIST = ("[", ", ", "]")
TOOL_CALLS = Calls(JsonObject(), section="<tool_calls>", section_close="</tool_calls>", list=LIST)

JAMBA = Family("jamba", models="Jamba 1.5, 1.6, 1.7", tools={"jamba": TOOL_CALLS}, ends=("<|eom|>", "<|endoftext|>"))
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
)
PHI4 = Family(
    "phi4_mini_json",
    models="Phi-4-mini",
    tools={"phi4_mini_json": Calls(JsonObject(), section="functools", list=LIST)},
    ends=("<|end|>", "<|/tool_call|>"),
)
FIREFUNCTION = Family(
    "firefunction_v2",
    models="FireFunction 2",
    tools={"firefunction_v2": Calls(JsonObject(), section=" functools", list=LIST)},
    ends=("<|eot_id|>",),
)
NEMOTRON_DECI = Family(
    "nemotron_deci",
    models="Llama-Nemotron, Nemotron Nano 2",
    tools={"nemotron_deci": Calls(JsonObject(), section="<TOOLCALL>", section_close="</TOOLCALL>", list=LIST)},
    reasoning={"nemotron_deci": Reasoning("<think>\n", "\n</think>\n\n")},
    ends=("<|eot_id|>", "<SPECIAL_12>"),
)
SARASHINA = Family(
    "sarashina",
    models="Sarashina 2.2",
    tools={"sarashina": Calls(JsonObject(python=PYTHON), section="<|tool_calls|>", list=LIST)},
    ends=("</s>", "<|eos|>"),
)
APERTUS = Family(
    "apertus",
    models="Apertus 2509",
    tools={"apertus": Calls(SingleKey(), section="<|tools_prefix|>", section_close="<|tools_suffix|>", list=LIST)},
    reasoning={"apertus": Reasoning("<|inner_prefix|>", "<|inner_suffix|>")},
    ends=("<|assistant_end|>",),
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
)
JSON = Family(
    "json",
    models="any model constrained to a JSON list of calls",
    tools={"json": Calls(JsonObject(arguments=("parameters", "arguments")), list=LIST, plain=True, bare=True)},
)
