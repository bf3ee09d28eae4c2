"""Model text in, events out: reasoning, content and tool calls, for every model family.

from portico.parsing import OutputParser, parse, render_calls
"""

from portico.parsing.parser import OutputParser, parse, render_calls

__all__ = ["OutputParser", "parse", "render_calls"]
