"""Moonshot Kimi. K2: the call's header is its id, to come back unchanged; K3: three channels and typed arguments.

<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{…}<|tool_call_end|>
<|tool_calls_section_end|>

<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>
Oslo<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>
"""

from portico.parsing.arguments import Json
from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning
from portico.parsing.tagged import Tagged


def _name(ident: str) -> str:
    """``functions.math.add:0`` is a call of ``math.add``."""
    name = ident.removeprefix("functions.")
    head, colon, index = name.rpartition(":")
    return head if colon and index.isdigit() else name


def _ident(index: int, name: str) -> str:
    return f"functions.{name}:{index}"


KIMI_K2 = Family(
    "kimi_k2",
    models="Kimi-K2, K2-Thinking, K2.5",
    tools={
        "kimi_k2": Calls(
            Headed("{id}<|tool_call_argument_begin|>", Json(), named=_name, ident=_ident),
            section=("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>"),
            open="<|tool_call_begin|>",
            close="<|tool_call_end|>",
            section_close=("<|tool_calls_section_end|>", "<|tool_call_section_end|>"),
            id=_ident,
        )
    },
    reasoning={"kimi_k2": Reasoning("<think>", "</think>")},
    ends=("<|im_end|>",),
    clues=(
        Clues(("<|tool_calls_section_begin|>",), tools="kimi_k2"),
        Clues(("<|tool_calls_section_begin|>", "<think>"), reasoning="kimi_k2"),
    ),
)
KIMI_K3 = Family(
    "kimi_k3",
    models="Kimi-K3",
    tools={
        "kimi_k3": Calls(
            Headed(
                '<|open|>call tool="{name}" index="{index}"<|sep|>',
                Tagged(
                    '<|open|>argument key="{key}" type="{type}"<|sep|>{value}<|close|>argument<|sep|>',
                    entities=True,
                    integer="number",
                ),
                "<|close|>call<|sep|>",
                entities=True,
            ),
            section="<|open|>tools<|sep|>",
            section_close="<|close|>tools<|sep|>",
        )
    },
    reasoning={
        "kimi_k3": Reasoning(
            "<|open|>think<|sep|>",
            "<|close|>think<|sep|>",
            wrappers=(("<|open|>response<|sep|>", "<|close|>response<|sep|>"),),
        )
    },
    ends=("<|close|>message<|sep|>", "<|im_end|>"),
    clues=(Clues(("<|open|>", "<|close|>", "<|sep|>"), tools="kimi_k3", reasoning="kimi_k3"),),
)
KIMI_VL = Family(
    "kimi_vl",
    models="Kimi-VL, Kimi K1.5",
    tools={"kimi_vl": Reasoning("◁think▷", "◁/think▷")},
    reasoning={"kimi_vl": Reasoning("◁think▷", "◁/think▷")},
    ends=("<|im_end|>",),
    clues=(Clues(("◁think▷",), reasoning="kimi_vl"),),
)
