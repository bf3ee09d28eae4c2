"""MiniCPM5: a function tag with one tag per parameter; values may be CDATA sections.

    <function name="get_weather"><param name="city">Oslo</param></function>

Detokenizers have glued or garbled the space in front of ``name``; the tags are read without it.
"""

from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family
from portico.parsing.tagged import Tagged

MINICPM5 = Family(
    "minicpm5",
    models="MiniCPM5",
    tools={
        "minicpm5": Calls(
            Headed(
                '<function name="{name}">',
                Tagged('<param name="{key}">{value}</param>', cdata=True),
                "</function>",
            )
        )
    },
    ends=("<|im_end|>", "</s>"),
    clues=(Clues(("<function name=", "<param name="), tools="minicpm5"),),
)
