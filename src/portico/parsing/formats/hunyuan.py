"""Tencent Hunyuan. A13B: a JSON list inside the answer block; Hy3 and Hy4: key and value tags in a section.

    <think>
    …
    </think>
    <answer>
    …<tool_calls>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]</tool_calls>
    </answer>

    <tool_calls:S><tool_call:S>get_weather<arg_key:S>city</arg_key:S><arg_value:S>Oslo</arg_value:S></tool_call:S></tool_calls:S>

S is a suffix of the checkpoint, or nothing. A call that A13B writes while it thinks is not to be made.
"""

from portico.parsing.bodies import Headed, JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.tagged import Tagged

HUNYUAN_A13B = Family(
    "hunyuan_a13b",
    models="Hunyuan-A13B",
    tools={
        name: Calls(
            JsonObject(),
            section="<tool_calls>",
            section_close="</tool_calls>",
            list=("[", ", ", "]"),
            in_thought=False,
        )
        for name in ("hunyuan_a13b", "hunyuan")
    },
    reasoning={
        name: Reasoning(
            "<think>\n",
            "\n</think>\n",
            wrappers=(("<answer>", "</answer>"), ("助手：", "")),
        )
        for name in ("hunyuan_a13b", "hunyuan")
    },
    ends=("<|eos|>",),
    clues=(
        Clues(("<tool_calls>", "<|startoftext|>"), never=("<|bom|>",), tools="hunyuan_a13b"),
        Clues(("<think>", "<|startoftext|>"), reasoning="hunyuan_a13b"),
    ),
)
HY_V3 = Family(
    "hy_v3",
    models="Hy3",
    tools={
        "hy_v3": Calls(
            Headed(
                "{name}<tool_sep*>\n",
                Tagged("<arg_key*>{key}</arg_key*>\n<arg_value*>{value}</arg_value*>\n"),
            ),
            section="<tool_calls*>\n",
            open="<tool_call*>",
            close="</tool_call*>\n",
            section_close="</tool_calls*>",
            bare=True,
        )
    },
    reasoning={"hy_v3": Reasoning("<think*>", "</think*>")},
    clues=(Clues(("<tool_calls", "<tool_sep", "<arg_key"), tools="hy_v3", reasoning="hy_v3"),),
)
HY_V4 = Family(
    "hy_v4",
    models="Hy4",
    tools={
        "hy_v4": Calls(
            Headed("{name}", Tagged("<arg_key*>{key}</arg_key*><arg_value*>{value}</arg_value*>")),
            section="<tool_calls*>",
            open="<tool_call*>",
            close="</tool_call*>",
            section_close="</tool_calls*>",
        )
    },
    reasoning={"hy_v4": Reasoning("<think*>", "</think*>")},
    clues=(Clues(("<tool_calls:", "<arg_key:"), never=("<tool_sep",), tools="hy_v4", reasoning="hy_v4"),),
)
