"""DeepSeek V3 and V3.1: a section of calls, each with its name in front of raw JSON.

    <｜tool▁calls▁begin｜>
    <｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Oslo"}<｜tool▁call▁end｜>
    <｜tool▁calls▁end｜>

V3 writes ``function`` before the name and a fence around the JSON. The bars are U+FF5C, the blocks U+2581.
"""

from portico.parsing.arguments import Json
from portico.parsing.bodies import Headed
from portico.parsing.calls import Body, Calls
from portico.parsing.family import Clues, Family, Reasoning

END = ("<｜end▁of▁sentence｜>",)


def _section(body: Body, separator: str) -> Calls:
    return Calls(
        body,
        section="<｜tool▁calls▁begin｜>",
        open="<｜tool▁call▁begin｜>",
        close="<｜tool▁call▁end｜>",
        section_close="<｜tool▁calls▁end｜>",
        list=("", separator, ""),
    )


DEEPSEEK_V3 = Family(
    "deepseek_v3",
    models="DeepSeek-V3-0324, R1, R1-0528",
    tools=dict.fromkeys(
        ("deepseek_v3", "deepseekv3"),
        _section(Headed("function<｜tool▁sep｜>{name}\n```json\n", Json(), "\n```"), "\n"),
    ),
    reasoning={"deepseek_r1": Reasoning("<think>\n", "\n</think>\n\n")},
    ends=END,
    clues=(
        Clues(("<｜tool▁calls▁begin｜>", "```json"), tools="deepseek_v3"),
        Clues(("<｜tool▁calls▁begin｜>", "```json", "</think>"), reasoning="deepseek_r1"),
    ),
)
DEEPSEEK_V31 = Family(
    "deepseek_v31",
    models="DeepSeek-V3.1, V3.1-Terminus",
    tools=dict.fromkeys(("deepseek_v31", "deepseekv31"), _section(Headed("{name}<｜tool▁sep｜>", Json()), "")),
    reasoning={"deepseek_v3": Reasoning("<think>", "</think>")},
    ends=END,
    clues=(
        Clues(("<｜tool▁calls▁begin｜>",), never=("```json",), tools="deepseek_v31"),
        Clues(("<｜Assistant｜>", "</think>"), never=("```json", "｜DSML｜"), reasoning="deepseek_v3"),
    ),
)
