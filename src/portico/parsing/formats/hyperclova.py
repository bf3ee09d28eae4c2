"""HyperCLOVA X SEED Think 14B: turns whose header says what they hold.

<|im_start|>assistant/think
…<|im_end|>
<|im_start|>assistant -> tool/function_call
[{"name": "get_weather", "arguments": {"city": "Oslo"}}]<|im_end|>
"""

from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family
from portico.parsing.messages import Messages, Route

START, CALL = "<|im_start|>assistant", "-> tool/function_call"
LIST = ("[", ", ", "]")


def _route(head: str, marker: str) -> Route:
    return Route("reasoning" if head.strip() == "/think" else "calls" if head.strip() == CALL else "content")


HYPERCLOVA_MESSAGES = Messages(
    start=(START,),
    head_end=("\n",),
    body_end=("<|im_end|>", "<|stop|>", "<|endofturn|>"),
    begins=("/think", CALL),
    route=_route,
    thought=("/think\n", "<|im_end|>", f"\n{START}"),
    answer="\n",
    opener=f" {CALL}\n",
    calls=Calls(JsonObject(), list=LIST),
    written=Calls(JsonObject(), section=f" {CALL}\n", section_close="<|im_end|>", list=LIST),
)

HYPERCLOVA = Family(
    "hyperclovax_seed_think_14b",
    models="HyperCLOVA X SEED Think 14B",
    tools={"hyperclovax_seed_think_14b": HYPERCLOVA_MESSAGES},
    reasoning={"hyperclovax_seed_think_14b": HYPERCLOVA_MESSAGES},
    clues=(Clues((CALL,), tools="hyperclovax_seed_think_14b", reasoning="hyperclovax_seed_think_14b"),),
)
