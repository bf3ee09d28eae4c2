"""Hermes: a JSON object between a pair of tags.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    </tool_call>

The tags are single tokens in Qwen's tokenizers and plain text elsewhere. Qwen3 may call from inside an open thought.
"""

from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning

THINK = Reasoning("<think>\n", "\n</think>\n\n")
CALLS = Calls(JsonObject(), open="<tool_call>\n", close="\n</tool_call>\n")
NAMES = ("trinity", "kolibri1", "interns1", "exaone4")

HERMES = Family(
    "hermes",
    models="Hermes 2 and 3, Qwen2.5, QwQ, Qwen3, Qwen3-VL, Holo2, Trinity, Kolibri, Intern-S1, EXAONE 4",
    tools=dict.fromkeys(("hermes", "qwen3_json", "qwen", "qwen25", *NAMES), CALLS),
    reasoning=dict.fromkeys(("qwen3", "holo2", *NAMES), THINK),
    ends=("<|im_end|>", "<|endoftext|>"),
    clues=(
        Clues(("<tool_call>", "arguments"), tools="hermes"),
        Clues(("<think>",), reasoning="qwen3"),
    ),
)
