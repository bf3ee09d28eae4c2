"""Qwen3-Coder: a function tag with one tag per parameter; values stand on lines of their own.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Oslo
    </parameter>
    </function>
    </tool_call>

The outer tag may be missing; a block may hold several functions. MiMo writes values inline, Seed-OSS both ways.
"""

from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.tagged import Tagged

LINES = "<parameter={key}>\n{value}\n</parameter>\n"
INLINE = "<parameter={key}>{value}</parameter>\n"


def _calls(param: Tagged, tag: str) -> Calls:
    return Calls(
        Headed("<function={name}>\n", param, "</function>"), open=f"<{tag}>\n", close=f"\n</{tag}>\n", bare=True
    )


QWEN = _calls(Tagged(LINES), "tool_call")
THINK = Reasoning("<think>\n", "\n</think>\n\n")
ENDS = ("<|im_end|>", "<|endoftext|>")

QWEN_CODER = Family(
    "qwen3_coder",
    models="Qwen3-Coder, Qwen3.5, Qwen3.6",
    tools=dict.fromkeys(("qwen3_coder", "qwen3_xml", "qwen35coder", "berrylm"), QWEN),
    ends=ENDS,
    clues=(Clues(("<tool_call>", "<function=", "<parameter="), tools="qwen3_coder"),),
)
NEMOTRON_V3 = Family(
    "nemotron_v3",
    models="Nemotron 3 Nano and Super",
    reasoning={"nemotron_v3": THINK},
    ends=ENDS,
    clues=(
        Clues(("<function=", "<SPECIAL_"), reasoning="nemotron_v3"),
        Clues(("truncate_history_thinking", "<think>"), reasoning="nemotron_v3"),
    ),
)
MINICPM_V = Family(
    "minicpmv",
    models="MiniCPM-V 4.6",
    reasoning={"minicpmv": THINK},
    ends=ENDS,
    clues=(Clues(("<think>", "<image_id>"), reasoning="minicpmv"),),
)
STEP3P5 = Family(
    "step3p5",
    models="Step-3.5",
    tools={"step3p5": QWEN},
    reasoning={"step3p5": Reasoning("<think>\n", "\n</think>\n")},
    ends=ENDS,
    clues=(
        Clues(("<im_patch>", "<tool_call>", "<function=", "<parameter="), tools="step3p5"),
        Clues(("<im_patch>", "<think>"), reasoning="step3p5"),
    ),
)
MIMO = Family(
    "mimo",
    models="MiMo-V2",
    tools={"mimo": _calls(Tagged(INLINE), "tool_call")},
    reasoning={"mimo": Reasoning("<think>", "</think>")},
    ends=ENDS,
    clues=(
        Clues(("MiMo", "<tool_call>", "<function=", "<parameter="), tools="mimo"),
        Clues(("MiMo", "<think>"), reasoning="mimo"),
    ),
)
SEED_OSS = Family(
    "seed_oss",
    models="Seed-OSS-36B",
    tools={"seed_oss": _calls(Tagged(INLINE, loose=True), "seed:tool_call")},
    reasoning={"seed_oss": Reasoning("<seed:think>", "</seed:think>")},
    ends=("<seed:eos>",),
    clues=(Clues(("<seed:tool_call>",), tools="seed_oss"), Clues(("<seed:think>",), reasoning="seed_oss")),
)
