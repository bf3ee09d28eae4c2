"""Qwen3-Coder: a function tag with one tag per parameter; values stand on lines of their own.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Oslo
    </parameter>
    </function>
    </tool_call>

The outer tag may be missing; a block may hold several functions. MiMo writes values inline.
"""

from portico.parsing.arguments import Tagged
from portico.parsing.calls import Calls, Headed
from portico.parsing.family import Family, Reasoning

THINK = Reasoning("<think>\n", "\n</think>\n\n")
LINES = Calls(
    Headed("<function={name}>\n", Tagged("<parameter={key}>\n{value}\n</parameter>\n"), "</function>"),
    open="<tool_call>\n",
    close="\n</tool_call>\n",
    bare=True,
)
INLINE = Calls(
    Headed("<function={name}>\n", Tagged("<parameter={key}>{value}</parameter>\n"), "</function>"),
    open="<tool_call>\n",
    close="\n</tool_call>\n",
    bare=True,
)

QWEN_CODER = Family(
    "qwen3_coder",
    models="Qwen3-Coder, Qwen3.5, Qwen3.6, Step-3.5, MiMo-V2, Nemotron 3, Granite 4.2, MiniCPM-V 4.6",
    tools={"qwen3_coder": LINES, "qwen3_xml": LINES, "step3p5": LINES, "mimo": INLINE},
    reasoning=dict.fromkeys(("mimo", "step3p5", "nemotron_v3", "granite_thinking_parser", "minicpmv"), THINK),
    ends=("<|im_end|>", "<|endoftext|>"),
)
