"""DeepSeek V3 and V3.1: a section of calls, the name in front of raw JSON. Bars are U+FF5C, blocks U+2581."""

from portico.parsing.arguments import Json
from portico.parsing.calls import Calls, Headed
from portico.parsing.family import Family, Reasoning

V3 = Calls(
    Headed("function<｜tool▁sep｜>{name}\n```json\n", Json(), "\n```"),
    section="<｜tool▁calls▁begin｜>",
    open="<｜tool▁call▁begin｜>",
    close="<｜tool▁call▁end｜>",
    section_close="<｜tool▁calls▁end｜>",
    list=("", "\n", ""),
)
V31 = Calls(
    Headed("{name}<｜tool▁sep｜>", Json()),
    section="<｜tool▁calls▁begin｜>",
    open="<｜tool▁call▁begin｜>",
    close="<｜tool▁call▁end｜>",
    section_close="<｜tool▁calls▁end｜>",
)

DEEPSEEK = Family(
    "deepseek",
    models="DeepSeek-V3-0324, R1, R1-0528, V3.1",
    tools={"deepseek_v3": V3, "deepseek_v31": V31},
    reasoning={
        "deepseek_r1": Reasoning("<think>\n", "\n</think>\n\n"),
        "deepseek_v3": Reasoning("<think>", "</think>"),
    },
    ends=("<｜end▁of▁sentence｜>",),
)
