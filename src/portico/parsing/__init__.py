"""Model text in, events out: reasoning, content and tool calls, for every model family.

from portico.parsing import OutputParser, parse, render_calls
"""

from portico.parsing.arguments import Unwritable
from portico.parsing.detect import Detection, detect
from portico.parsing.parser import OutputParser, answer_frame, calls_grammar, parse, render_calls
from portico.parsing.registry import declare, families, load_plugin, reasoning_names, tool_names

__all__ = [
    "Detection",
    "OutputParser",
    "Unwritable",
    "answer_frame",
    "calls_grammar",
    "declare",
    "detect",
    "families",
    "load_plugin",
    "parse",
    "reasoning_names",
    "render_calls",
    "tool_names",
]
