"""Functionary. 3.1: the name in a tag, raw JSON behind it; 3.2: messages headed by their recipient.

<function=get_weather>{"city": "Oslo"}</function>

>>>all
Let me see.>>>get_weather
{"city": "Oslo"}
"""

from portico.parsing.arguments import Json
from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family
from portico.parsing.messages import Messages, Route

ENDS = ("<|eot_id|>", "<|eom_id|>")


def _route(head: str, marker: str) -> Route:
    recipient = head.strip()
    return Route("content") if recipient in ("all", "") else Route("call", recipient)


FUNCTIONARY_V31 = Family(
    "functionary_v31",
    models="Functionary 3.1",
    tools={"functionary_v31": Calls(Headed("<function={name}>", Json(), "</function>"))},
    ends=ENDS,
    clues=(Clues(("<function=example_function_name>",), never=("<parameter=",), tools="functionary_v31"),),
)
FUNCTIONARY_V32 = Family(
    "functionary_v32",
    models="Functionary 3.2",
    tools={
        "functionary_v32": Messages(
            start=(">>>",),
            head_end=("\n",),
            body_end=ENDS,
            route=_route,
            answer=">>>all\n",
            calls=Calls(Headed(">>>{name}\n", Json())),
        )
    },
    ends=ENDS,
    clues=(Clues((">>>all",), tools="functionary_v32"),),
)
