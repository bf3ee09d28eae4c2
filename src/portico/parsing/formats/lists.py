"""Families that differ only in the markers around a JSON list of calls.

<tool_calls>[{"name": "get_weather", "arguments": {"city": "Oslo"}}, {"name": "ping", "arguments": {}}]</tool_calls>
"""

from portico.parsing.bodies import JsonObject, SingleKey
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.strings import PYTHON

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
    tools=dict.fromkeys(
        ("nemotron_deci", "nemotron_json", "nemotron_nano_v2"),
        Calls(JsonObject(), section="<TOOLCALL>", section_close="</TOOLCALL>", list=LIST),
    ),
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
    models="Apertus 2509, 1.5",
    tools=dict.fromkeys(
        ("apertus", "apertus2509", "apertus15"),
        Calls(SingleKey(), section="<|tools_prefix|>", section_close="<|tools_suffix|>", list=LIST),
    ),
    reasoning=dict.fromkeys(("apertus", "apertus2509", "apertus15"), Reasoning("<|inner_prefix|>", "<|inner_suffix|>")),
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
PANGU = Family(
    "pangu",
    models="openPangu; newer ones write as LFM2 does",
    tools={"pangu": Calls(JsonObject(), section="[unused11]", section_close="[unused12]", list=LIST)},
    ends=("[unused10]",),
    clues=(Clues(("[unused11]", "[unused12]"), tools="pangu"),),
)
COMMAND_R = Family(
    "cohere_command_r",
    models="Command R and R+ of 2024",
    tools={
        "cohere_command_r": Calls(
            JsonObject(("tool_name", "name"), ("parameters", "arguments")),
            section=("Action:\n```json\n", "Action: ```json\n"),
            section_close="\n```",
            list=("[\n    ", ",\n    ", "\n]"),
        )
    },
    ends=("<|END_OF_TURN_TOKEN|>",),
    clues=(
        Clues(
            ("Action:", "```json", "tool_name", "<|START_OF_TURN_TOKEN|>"),
            never=("<|START_ACTION|>",),
            tools="cohere_command_r",
        ),
    ),
)
RWKV = Family(
    "rwkv",
    models="RWKV-7",
    tools={
        "rwkv": Calls(
            JsonObject(),
            section=("**Tool Call:**\n```json\n", "<tool_call>\n"),
            section_close=("\n```", "\n</tool_call>"),
        )
    },
    clues=(Clues(("**Tool Call:**",), tools="rwkv"),),
)
