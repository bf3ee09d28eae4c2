"""LongCat-Flash: Hermes with its own tags."""

from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning

LONGCAT = Family(
    "longcat",
    models="LongCat-Flash",
    tools={"longcat": Calls(JsonObject(), open="<longcat_tool_call>\n", close="\n</longcat_tool_call>\n")},
    reasoning={"longcat": Reasoning("<longcat_think>\n", "\n</longcat_think>\n")},
    ends=("</longcat_s>",),
    clues=(Clues(("<longcat_tool_call>",), tools="longcat"), Clues(("<longcat_think>",), reasoning="longcat")),
)
