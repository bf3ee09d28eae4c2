"""GLM: the name, then pairs of key and value tags; 4.7 and later, Ling and Ring write them without line ends.

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
COMPACT = Calls(
    Headed("{name}", Tagged("<arg_key>{key}</arg_key><arg_value>{value}</arg_value>")),
    open="<tool_call>",
    close="</tool_call>",
)
THINK = Reasoning("<think>", "</think>")
LINED = ("</arg_key>\n<arg_value>", "</arg_key>\\n")  # a line end between key and value
ENDS = ("<|observation|>", "<|user|>", "<|endoftext|>")

GLM45 = Family(
    "glm45",
    models="GLM-4.5, 4.6",
    tools={"glm45": LINES},
    reasoning={"glm45": Reasoning("<think>", "</think>\n")},
    ends=ENDS,
    clues=(
        Clues(("<tool_call>", "<arg_key>", "<arg_value>"), some=LINED, tools="glm45"),
        Clues(("[gMASK]", "<think>", "<arg_key>"), some=LINED, reasoning="glm45"),
    ),
)
GLM47 = Family(
    "glm47",
    models="GLM-4.7, 5",
    tools={"glm47": COMPACT},
    reasoning={"glm47": THINK},
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
