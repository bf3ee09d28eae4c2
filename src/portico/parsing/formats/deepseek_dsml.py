"""DeepSeek V3.2, V4, V4.1, GigaChat 3.5: invokes with one tag per parameter, every tag under the mark ``｜DSML｜``.

    <｜DSML｜function_calls>
    <｜DSML｜invoke name="get_weather">
    <｜DSML｜parameter name="city" string="true">Oslo</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜function_calls>

V4 names the section ``tool_calls``; V4.1 puts a space behind the mark; GigaChat's is ``｜GCML｜``.
``string`` tells text from JSON.
"""

from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.tagged import Tagged

THINK = Reasoning("<think>", "</think>")
END = ("<｜end▁of▁sentence｜>",)


def _calls(mark: str, *words: str) -> Calls:
    return Calls(
        Headed(
            f'<{mark}invoke name="{{name}}">\n',
            Tagged(
                f'<{mark}parameter name="{{key}}" string="{{string}}">{{value}}</{mark}parameter>\n',
            ),
            f"</{mark}invoke>\n",
        ),
        section=tuple(f"<{mark}{word}>\n" for word in words),
        section_close=tuple(f"</{mark}{word}>" for word in words),
    )


DEEPSEEK_V32 = Family(
    "deepseek_v32",
    models="DeepSeek-V3.2, V3.2-Speciale",
    tools=dict.fromkeys(("deepseek_v32", "deepseekv32"), _calls("｜DSML｜", "function_calls", "tool_calls")),
    ends=END,
    clues=(Clues(("｜DSML｜", "function_calls", "<｜Assistant｜>"), tools="deepseek_v32", reasoning="deepseek_v3"),),
)
DEEPSEEK_V4 = Family(
    "deepseek_v4",
    models="DeepSeek-V4",
    tools={"deepseek_v4": _calls("｜DSML｜", "tool_calls", "toolcalls", "tool", "function_calls")},
    reasoning={"deepseek_v4": THINK},
    ends=END,
    clues=(
        Clues(
            ("｜DSML｜", "tool_calls", "<｜Assistant｜>"),
            never=("function_calls",),
            tools="deepseek_v4",
            reasoning="deepseek_v4",
        ),
    ),
)
DEEPSEEK_V41 = Family(
    "deepseek_v41",
    models="DeepSeek-V4.1",
    tools={"deepseek_v41": _calls("｜DSML｜ ", "calls", "tool_calls")},
    reasoning={"deepseek_v41": THINK},
    ends=END,
    clues=(Clues(("｜DSML｜ calls", "<｜Assistant｜>"), tools="deepseek_v41", reasoning="deepseek_v41"),),
)
GIGACHAT35 = Family(
    "gigachat35",
    models="GigaChat 3.5",
    tools={"gigachat35": _calls("｜GCML｜", "tool_calls")},
    reasoning={"gigachat35": THINK},
    ends=("<|message_sep|>", "</s>"),
    clues=(Clues(("｜GCML｜",), tools="gigachat35"), Clues(("｜GCML｜", "<think>"), reasoning="gigachat35")),
)
