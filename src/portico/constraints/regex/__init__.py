r"""Regular expressions: read as a tree, written as what llguidance understands.

Two dialects are read. ``ecma`` is that of JSON Schema's ``pattern``: ``\d`` and ``\w`` are ASCII, and the pattern may
match anywhere in the string. ``rust`` is that of clients who write for llguidance: Unicode classes, flags, sets inside
sets, and the whole text has to match. Anchors are made sense of (``^a|b$``), so what is written has none.

What a grammar cannot hold (look-around, word boundaries, back-references) is told with ``UnheldError``.

    whole(read(r"^a\d", "ecma"))   a, a digit, and anything
    written(tree)                  in the characters that it matches
    written(tree, as_json=True)    in the spelling that these characters have inside a JSON string
"""

from portico.constraints.regex.characters import Dialect
from portico.constraints.regex.reading import read
from portico.constraints.regex.tree import Chars, Node, Row, UnheldError, literal
from portico.constraints.regex.writing import NARROW, bounded, exact, whole, written

__all__ = [
    "NARROW",
    "Chars",
    "Dialect",
    "Node",
    "Row",
    "UnheldError",
    "bounded",
    "exact",
    "literal",
    "read",
    "whole",
    "written",
]
