"""K2 Horizon: key and value tags in a section, with the type between them where the request asks for it, or JSON.

    <ifm|tool_calls>
    <ifm|tool_call>get_weather
    <ifm|arg_key>city</ifm|arg_key>
    <ifm|arg_value>Oslo</ifm|arg_value>
    </ifm|tool_call>
    </ifm|tool_calls>

The think tag depends on the effort.
"""

from portico.parsing.bodies import Headed, JsonObject
from portico.parsing.calls import Body, Calls
from portico.parsing.either import Either
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.tagged import Tagged

TYPED = Tagged(
    "<ifm|arg_key>{key}</ifm|arg_key>\n«<ifm|arg_type>{type}</ifm|arg_type>\n»<ifm|arg_value>{value}</ifm|arg_value>\n"
)
SPELLINGS = ("think", "think_fast", "think_faster")


def _calls(body: Body) -> Calls:
    return Calls(
        body,
        section="<ifm|tool_calls>\n",
        open="<ifm|tool_call>",
        close="</ifm|tool_call>\n",
        section_close="</ifm|tool_calls>",
    )


K2_HORIZON = Family(
    "k2_horizon",
    models="K2 Horizon",
    tools=dict.fromkeys(("k2_horizon", "k2_v3"), Either((_calls(JsonObject()), _calls(Headed("{name}\n", TYPED))))),
    reasoning={
        "k2_horizon": Reasoning(
            tuple(f"<ifm|{word}>" for word in SPELLINGS), tuple(f"</ifm|{word}>" for word in SPELLINGS)
        )
    },
    ends=("<ifm|im_end|>",),
    clues=(Clues(("<ifm|tool_call",), tools="k2_horizon"), Clues(("<ifm|think",), reasoning="k2_horizon")),
)
