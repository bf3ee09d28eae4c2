"""Step-3: invokes in a section of tokens, one tag per parameter. The bars are U+FF5C."""

from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.tagged import Tagged

STEP3 = Family(
    "step3",
    models="Step-3",
    tools={
        "step3": Calls(
            Headed(
                '<steptml:invoke name="{name}">',
                Tagged('<steptml:parameter name="{key}">{value}</steptml:parameter>'),
                "</steptml:invoke>",
            ),
            section="<｜tool_calls_begin｜>\n",
            open="<｜tool_call_begin｜>function<｜tool_sep｜>",
            close="<｜tool_call_end｜>\n",
            section_close="<｜tool_calls_end｜>",
        )
    },
    reasoning={"step3": Reasoning("<think>\n", "\n</think>\n")},
    ends=("<｜end▁of▁sentence｜>", "<|EOT|>"),
    clues=(Clues(("<steptml:invoke",), tools="step3"), Clues(("<｜tool_calls_begin｜>", "<think>"), reasoning="step3")),
)
