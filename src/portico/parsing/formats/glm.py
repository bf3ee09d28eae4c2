"""GLM, Ling, Laguna, Spark, iQuest: the name, then pairs of key and value tags; GLM since 4.7 without line ends.

<tool_call>get_weather
<arg_key>city</arg_key>
<arg_value>Oslo</arg_value>
</tool_call>
"""

from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.tagged import Tagged

LINES = Calls(
    Headed("{name}\n", Tagged("<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n")),
    open="<tool_call>",
    close="</tool_call>\n",
)


def _compact(tag: str) -> Calls:
    return Calls(
        Headed("{name}", Tagged("<arg_key>{key}</arg_key><arg_value>{value}</arg_value>")),
        open=f"<{tag}>",
        close=f"</{tag}>",
    )


COMPACT = _compact("tool_call")
THINK = Reasoning("<think>", "</think>")
LINED = ("</arg_key>\n<arg_value>", "</arg_key>\\n")  # a line end between key and value
ENDS = ("<|observation|>", "<|user|>", "<|endoftext|>")

GLM45 = Family(
    "glm45",
    models="GLM-4.5, 4.6; HyperCLOVA X SEED Think 32B",
    tools=dict.fromkeys(("glm45", "glm", "hyperclovax_seed_think"), LINES),
    reasoning=dict.fromkeys(("glm45", "glm", "hyperclovax_seed_think"), Reasoning("<think>", "</think>\n")),
    ends=ENDS,
    clues=(
        Clues(("<tool_call>", "<arg_key>", "<arg_value>"), some=LINED, tools="glm45"),
        Clues(("[gMASK]", "<think>", "<arg_key>"), some=LINED, reasoning="glm45"),
    ),
)
GLM47 = Family(
    "glm47",
    models="GLM-4.7, 5; Spark 2.5, 3",
    tools=dict.fromkeys(("glm47", "spark25", "spark3"), COMPACT),
    reasoning=dict.fromkeys(("glm47", "spark25", "spark3"), THINK),
    ends=ENDS,
    clues=(
        Clues(("<tool_call>", "<arg_key>", "<arg_value>"), never=LINED, tools="glm47"),
        Clues(("[gMASK]", "<think>", "<arg_key>"), never=LINED, reasoning="glm47"),
    ),
)
LING3 = Family(
    "ling3",
    models="Ling 3, Ring",
    tools={"ling3": COMPACT},
    reasoning={"ling3": THINK},
    ends=ENDS,
    clues=(
        Clues(("<role>", "<tool_call>", "<arg_key>", "<arg_value>"), tools="ling3"),
        Clues(("<role>", "<think>", "<arg_key>"), reasoning="ling3"),
    ),
)
POOLSIDE = Family(
    "poolside_v1",
    models="Laguna",
    tools={"poolside_v1": LINES},
    reasoning={"poolside_v1": THINK},
    ends=(*ENDS, "</assistant>"),
    clues=(
        Clues(("<assistant>", "<tool_call>", "<arg_key>", "<arg_value>"), tools="poolside_v1"),
        Clues(("<assistant>", "<think>", "<arg_key>"), reasoning="poolside_v1"),
    ),
)
IQUEST_CODER = Family(
    "iquest_coder",
    models="iQuest-Coder v2",
    tools={"iquest_coder": _compact("iquestcoder_tool_call")},
    reasoning={"iquest_coder": THINK},
    ends=("<|im_end|>",),
    clues=(
        Clues(("<iquestcoder_tool_call>",), tools="iquest_coder"),
        Clues(("<iquestcoder_tool_call>", "<think>"), reasoning="iquest_coder"),
    ),
)
IQUEST_Q1 = Family(
    "iquest_q1",
    models="iQuest-Q1",
    tools={"iquest_q1": _compact("iquest_tool_call")},
    reasoning={"iquest_q1": THINK},
    ends=("<|im_end|>",),
    clues=(
        Clues(("<iquest_tool_call>",), tools="iquest_q1"),
        Clues(("<iquest_tool_call>", "<think>"), reasoning="iquest_q1"),
    ),
)
