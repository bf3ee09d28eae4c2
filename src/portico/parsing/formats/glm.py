"""GLM: the name as the first line, then pairs of key and value tags. 4.7 and later write the same without line ends."""

from portico.parsing.arguments import Tagged
from portico.parsing.calls import Calls, Headed
from portico.parsing.family import Family, Reasoning

LINES = Calls(
    Headed("{name}\n", Tagged("<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n")),
    open="<tool_call>",
    close="</tool_call>\n",
)
COMPACT = Calls(
    Headed("{name}", Tagged("<arg_key>{key}</arg_key><arg_value>{value}</arg_value>")),
    open="<tool_call>",
    close="</tool_call>",
)
THINK = Reasoning("<think>", "</think>\n")

GLM = Family(
    "glm",
    models="GLM-4.5, 4.6, 4.7, 5, Ling 3, Ring, Laguna",
    tools={"glm45": LINES, "glm47": COMPACT, "ling3": COMPACT, "poolside_v1": LINES},
    reasoning=dict.fromkeys(("glm45", "glm47", "ling3", "poolside_v1"), THINK),
    ends=("<|observation|>", "<|user|>", "</assistant>"),
)
