"""dots.llm: invokes with one tag per parameter in a section, or a JSON object in their place."""

from portico.parsing.bodies import Headed, JsonObject
from portico.parsing.calls import Calls
from portico.parsing.either import Either
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.tagged import Tagged

OPEN, CLOSE = "<dots_function_call>\n", "</dots_function_call>"

DOTS = Family(
    "dots",
    models="dots.llm",
    tools={
        "dots": Either(
            (
                Calls(JsonObject(), open=OPEN, close=f"\n{CLOSE}"),
                Calls(
                    Headed(
                        '<invoke name="{name}">\n',
                        Tagged('<parameter name="{key}">{value}</parameter>\n'),
                        "</invoke>\n",
                    ),
                    section=OPEN,
                    section_close=CLOSE,
                ),
            )
        )
    },
    reasoning={"dots": Reasoning("<think>", "</think>")},
    clues=(
        Clues(("<dots_function_call>",), tools="dots"),
        Clues(("<dots_function_call>", "<think>"), reasoning="dots"),
    ),
)
