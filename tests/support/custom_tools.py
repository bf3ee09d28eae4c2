"""Grammars of custom tools, with texts of their languages and texts outside."""

from __future__ import annotations

from typing import Any, NamedTuple

PATCH = """start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?

hunk: add_hunk | delete_hunk | update_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF
update_hunk: "*** Update File: " filename LF change_move? change?

filename: /(.+)/
add_line: "+" /(.*)/ LF -> line
change_move: "*** Move to: " filename LF
change: (change_context | change_line)+ eof_line?
change_context: ("@@" | "@@ " /(.+)/) LF
change_line: ("+" | "-" | " ") /(.*)/ LF
eof_line: "*** End of File" LF

%import common.LF
"""
SUM = r"""// sums of numbers, words and sums
start: sum
sum: part (("+" | "-") part)*
part: NUMBER | WORD | "(" sum ")"
WORD: "\"" /[a-zé]*/ "\""
%import common.INT -> NUMBER
%ignore / +/
"""
WORDS = r"""?start: "go"i " " WAY ("," WAY)~0..2 "\t"? ["\\"] "!"{1,2}
WAY.2: "a".."c" | /[^a-z"\\\n]/ | "é" | /\d{2}(?i:km)/
"""


class Case(NamedTuple):
    syntax: str
    definition: str
    inside: list[str]
    outside: list[str]


CASES = {
    "patch": Case(
        "lark",
        PATCH,
        [
            '*** Begin Patch\n*** Update File: a "b".py\n@@ def f():\n-x = "\\n"\t\n+y\n+\n \n*** End Patch\n',
            "*** Begin Patch\n*** Add File: é/東.txt\n+</tag> <x>\n*** Delete File: b\n*** End Patch",
        ],
        ["", "*** Begin Patch\n*** End Patch\n", "*** Begin Patch\n*** Delete File: \n*** End Patch", "patch"],
    ),
    "sum": Case("lark", SUM, ['1 + ("ab" - 2)', '"é"', "((7))"], ["1 +", "(1", '"A"', ""]),
    "words": Case("lark", WORDS, ["Go a,b,é!", "gO É!!", "go 12KM\t\\!", "GO '!"], ["go d!", "go a", "go \n!"]),
    "regex": Case("regex", r'\d{3}-[a-f/"\\]+(?s:.)?', ["123-a/f", '123-"\\\n', "٣12-a"], ["12-a", "123-", "x"]),
}


def tool(case: Case, name: str = "write") -> dict[str, Any]:
    """A custom tool with this grammar, in the shape of chat completions."""
    grammar = {"syntax": case.syntax, "definition": case.definition}
    return {"type": "custom", "custom": {"name": name, "format": {"type": "grammar", "grammar": grammar}}}
