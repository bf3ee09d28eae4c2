"""Muse Glimmer: messages to a recipient; a message to a tool holds an invoke with one tag per parameter.

     to=self<|message|>…<|eom|><|start|>assistant to=get_weather<|message|><atem:function_calls>
    <atem:invoke name="get_weather">
    <atem:parameter name="city">Oslo</atem:parameter>
    </atem:invoke>
    </atem:function_calls><|eom|>

``self`` is reasoning, ``user`` the answer; an invoke echoed in either is no call. ``x.x`` is ``x``.
"""

import re

from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family
from portico.parsing.messages import Messages, Route
from portico.parsing.tagged import Tagged

_RECIPIENT = re.compile(r"to=([^\s<]+)")


def _route(head: str, marker: str) -> Route:
    recipient = _RECIPIENT.search(head)
    if recipient is None or recipient[1] == "user":
        return Route("content")
    return Route("reasoning" if recipient[1] == "self" else "calls")


def _name(name: str) -> str:
    space, _, rest = name.partition(".")
    return space if space == rest else name


MUSE_MESSAGES = Messages(
    start=("<|start|>assistant",),
    head_end=("<|message|>",),
    body_end=("<|eom|>", "<|eot|>"),
    begins=("to=", "<|message|>"),
    route=_route,
    thought=(" to=self<|message|>", "<|eom|>", "<|start|>assistant"),
    answer=" to=user<|message|>",
    calls=Calls(
        Headed(
            '<atem:invoke name="{name}">\n',
            Tagged('<atem:parameter name="{key}">{value}</atem:parameter>\n'),
            "</atem:invoke>\n",
            named=_name,
        ),
        section="<atem:function_calls>\n",
        section_close="</atem:function_calls>",
    ),
    written=Calls(
        Headed(
            ' to={name}<|message|><atem:function_calls>\n<atem:invoke name="{name}">\n',
            Tagged('<atem:parameter name="{key}">{value}</atem:parameter>\n'),
            "</atem:invoke>\n</atem:function_calls><|eom|>",
        ),
        list=("", "<|start|>assistant", ""),
    ),
)

MUSE = Family(
    "muse_glimmer",
    models="Muse Glimmer",
    tools={"muse_glimmer": MUSE_MESSAGES, "muse": MUSE_MESSAGES},
    reasoning={"muse_glimmer": MUSE_MESSAGES, "muse": MUSE_MESSAGES},
    clues=(Clues(("<atem:invoke", "<|message|>"), tools="muse_glimmer", reasoning="muse_glimmer"),),
)
