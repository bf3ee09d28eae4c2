"""Cohere Command: thinking, then either a list of calls or the answer between response tokens.

    <|START_THINKING|>…<|END_THINKING|><|START_ACTION|>[
        {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Oslo"}}
    ]<|END_ACTION|>

The model numbers its calls. The prompt of Command 4 opens the thought.
"""

from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning


def _number(index: int, name: str) -> str:
    return str(index)


CALLS = Calls(
    JsonObject(("tool_name", "name"), ("parameters", "arguments"), id="tool_call_id", id_first=True),
    section="<|START_ACTION|>",
    section_close="<|END_ACTION|>",
    list=("[\n    ", ",\n    ", "\n]"),
    id=_number,
)
THINK = Reasoning(
    "<|START_THINKING|>",
    "<|END_THINKING|>",
    wrappers=(("<|START_RESPONSE|>", "<|END_RESPONSE|>"), ("<|START_TEXT|>", "<|END_TEXT|>")),
)

COHERE = Family(
    "cohere",
    models="Command R7B, Command A, Command 4",
    tools={"cohere_command3": CALLS, "cohere_command4": CALLS},
    reasoning={"cohere_command3": THINK, "cohere_command4": THINK},
    ends=("<|END_OF_TURN_TOKEN|>",),
    clues=(
        Clues(("<|START_ACTION|>",), never=("<|START_TEXT|>",), tools="cohere_command3"),
        Clues(("<|START_ACTION|>", "<|START_TEXT|>"), tools="cohere_command4"),
        Clues(("<|START_THINKING|>",), never=("<|START_TEXT|>",), reasoning="cohere_command3"),
        Clues(("<|START_THINKING|>", "<|START_TEXT|>"), reasoning="cohere_command4"),
    ),
)
