"""Llama 3 and 4: a bare JSON object, or a list of Python calls."""

from portico.parsing.arguments import Keyword
from portico.parsing.calls import Calls, Headed, JsonObject
from portico.parsing.family import Family
from portico.parsing.literals import PYTHON

ENDS = ("<|eot_id|>", "<|eom_id|>", "<|eot|>")
JSON = Calls(
    JsonObject(arguments=("parameters", "arguments")), open=("", "<|python_tag|>"), list=("", "; ", ""), plain=True, bare=True
)

LLAMA = Family(
    "llama",
    models="Llama 3.1, 3.2, 3.3, Llama 4",
    tools={"llama3_json": JSON, "llama4_json": JSON},
    ends=ENDS,
)
