"""MiniMax. M1: JSON lines in a section; M2: invokes with one tag per parameter; M3: nested elements under a mark.

    <minimax:tool_call>
    <invoke name="get_weather">
    <parameter name="city">Oslo</parameter>
    </invoke>
    </minimax:tool_call>

A call that M1 writes while it thinks is not to be made.
"""

from portico.parsing.bodies import Headed, JsonObject
from portico.parsing.calls import Calls
from portico.parsing.elements import Elements
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.tagged import Tagged

MARK = "]<]minimax[>["

MINIMAX = Family(
    "minimax",
    models="MiniMax-M1",
    tools={
        "minimax": Calls(
            JsonObject(),
            section="<tool_calls>\n",
            section_close="\n</tool_calls>",
            list=("", "\n", ""),
            in_thought=False,
        )
    },
    clues=(
        Clues(("<tool_calls>", "]~b]"), tools="minimax"),
        Clues(("<beginning_of_sentence>", "<tool_calls>"), tools="minimax"),
    ),
)
MINIMAX_M2 = Family(
    "minimax_m2",
    models="MiniMax-M2, M2.1, M2.5",
    tools={
        name: Calls(
            Headed('<invoke name="{name}">\n', Tagged('<parameter name="{key}">{value}</parameter>\n'), "</invoke>\n"),
            section="<minimax:tool_call>\n",
            section_close="</minimax:tool_call>",
        )
        for name in ("minimax_m2", "minimax-m2")
    },
    reasoning={
        "minimax_m2": Reasoning("<think>\n", "\n</think>\n\n"),
        "minimax_m2_append_think": Reasoning("<think>\n", "\n</think>\n\n", shown=True),
    },
    ends=("[e~[",),
    clues=(Clues(("<minimax:tool_call>",), tools="minimax_m2", reasoning="minimax_m2"),),
)
MINIMAX_M3 = Family(
    "minimax_m3",
    models="MiniMax-M3",
    tools={
        name: Calls(
            Headed(f'{MARK}<invoke name="{{name}}">', Elements(MARK), f"{MARK}</invoke>\n"),
            section=f"{MARK}<tool_call>\n",
            section_close=f"{MARK}</tool_call>",
        )
        for name in ("minimax_m3", "minimax-m3")
    },
    reasoning={"minimax_m3": Reasoning("<mm:think>", "</mm:think>")},
    ends=("[e~[",),
    clues=(
        Clues(("]<]minimax[>[", "<invoke name="), tools="minimax_m3"),
        Clues(("]<]minimax[>[", "<mm:think>"), reasoning="minimax_m3"),
    ),
)
