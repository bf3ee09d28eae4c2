"""Llama 3 and 4 in JSON mode: the bare object is the message; several are joined by semicolons.

    {"name": "get_weather", "parameters": {"city": "Oslo"}}; {"name": "ping", "parameters": {}}

``<|python_tag|>`` may stand in front. A JSON answer that is no call stays an answer.
"""

from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family

JSON = Calls(
    JsonObject(arguments=("parameters", "arguments")),
    section=("", "<|python_tag|>"),
    list=("", "; ", ""),
    plain=True,
    bare=True,
)

LLAMA = Family(
    "llama_json",
    models="Llama 3.1, 3.2, 3.3, Llama 4",
    tools=dict.fromkeys(("llama3_json", "llama3", "llama4_json"), JSON),
    ends=("<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|eom|>"),
    clues=(
        Clues(
            ("<|start_header_id|>", '"parameters": '),
            some=("<|python_tag|>", "<|eom_id|>", "dictionary of argument"),
            tools="llama3_json",
        ),
        Clues(("<|header_start|>", '"parameters": '), tools="llama4_json"),
    ),
)
