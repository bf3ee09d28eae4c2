"""Kimi K2: a section of calls whose header is the call's id; it must come back unchanged in the next turn.

    <|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{…}<|tool_call_end|>
    <|tool_calls_section_end|>
"""

from portico.parsing.arguments import Json
from portico.parsing.calls import Calls, Headed
from portico.parsing.family import Family, Reasoning


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
)
