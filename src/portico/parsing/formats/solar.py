"""Solar Open. The first: channels, calls with their ids; the second: one tag per argument between tokens.

<|think|>…<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>ab12cd34ef<|tool_call:name|>get_weather
<|tool_call:args|>{"city": "Oslo"}<|tool_call:end|><|calls|>

<|tool_call:start|>get_weather
<|tool_arg:start|>city<|tool_arg:value|>Oslo<|tool_arg:end|>
<|tool_call:end|>
"""

import secrets
import string

from portico.parsing.arguments import Json
from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.messages import Messages, Route
from portico.parsing.tagged import Tagged

_ALPHABET = string.ascii_lowercase + string.digits
THINK, CONTENT, CALLS = "<|think|>", "<|content|>", "<|tool_calls|>"


def _id(index: int, name: str) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(9)) + str(index % 10)


def _route(head: str, marker: str) -> Route:
    return Route("reasoning" if marker == THINK else "calls" if marker == CALLS else "content")


CALL = Headed(
    "{id}<|tool_call:name|>{name}<|tool_call:args|>",
    Json(),
    "<|tool_call:end|>",
    ident=_id,
    id_pattern="[a-z0-9]{10}",
)
SOLAR_MESSAGES = Messages(
    start=("<|begin|>assistant",),
    head_end=(THINK, CONTENT, CALLS),
    body_end=("<|end|>", "<|calls|>", "<|flush|>"),
    begins=(THINK, CONTENT, CALLS),
    route=_route,
    thought=(THINK, "<|end|>", "<|begin|>assistant"),
    answer=CONTENT,
    opener=CALLS,
    calls=Calls(CALL, open="<|tool_call:begin|>", id=_id),
    written=Calls(CALL, section=CALLS, open="<|tool_call:begin|>", section_close="<|calls|>", id=_id),
)

SOLAR_OPEN = Family(
    "solar_open",
    models="Solar Open 100B",
    tools={"solar_open": SOLAR_MESSAGES},
    reasoning={"solar_open": SOLAR_MESSAGES},
    clues=(Clues(("<|begin|>", "<|tool_call:begin|>"), tools="solar_open", reasoning="solar_open"),),
)
SOLAR_OPEN2 = Family(
    "solar_open2",
    models="Solar Open 2",
    tools={
        "solar_open2": Calls(
            Headed(
                "{name}\n", Tagged("<|tool_arg:start|>{key}<|tool_arg:value|>{value}<|tool_arg:end|>\n", first=True)
            ),
            open="<|tool_call:start|>",
            close="<|tool_call:end|>\n",
        )
    },
    reasoning={"solar_open2": Reasoning("<|think:start|>", "<|think:end|>")},
    ends=("<|im:end|>", "<|end|>"),
    clues=(
        Clues(("<|tool_call:start|>",), tools="solar_open2"),
        Clues(("<|think:start|>",), reasoning="solar_open2"),
    ),
)
