"""The page that docs/adding-a-model.md writes is a real one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from portico.parsing import OutputParser, detect, load_plugin, parse, render_calls
from portico.parsing.folding import fold
from support.shared import ROOT

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
ANSWER = (
    "[think]The user wants the weather.[/think]Let me look.\n"
    '[call get_weather]{"city": "Oslo", "days": 3}[/call]<|eot|>'
)


@pytest.fixture
def acorn(tmp_path: Path) -> str:
    page = (ROOT / "docs" / "adding-a-model.md").read_text()
    found = re.search(r"<!-- example -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    (tmp_path / "acorn.py").write_text(found[1])
    [family] = load_plugin(tmp_path / "acorn.py")
    return family.name


def test_it_reads_writes_and_is_found(acorn: str) -> None:
    whole = parse(ANSWER, acorn, acorn, tools=TOOLS)
    assert whole.reasoning == "The user wants the weather."
    assert whole.content == "Let me look."
    assert [(call.name, json.loads(call.arguments)) for call in whole.tool_calls] == [
        ("get_weather", {"city": "Oslo", "days": 3})
    ]
    parser = OutputParser(acorn, acorn, tools=TOOLS)
    singly = fold([event for char in ANSWER for event in parser.feed(char)] + parser.close())
    assert (singly.reasoning, singly.content) == (whole.reasoning, whole.content)
    assert singly.tool_calls[0].arguments == whole.tool_calls[0].arguments
    call = {"name": "get_weather", "arguments": {"note": "[/call] is not the end"}}
    assert parse(render_calls([call], acorn, TOOLS), acorn, tools=TOOLS).tool_calls[0].name == "get_weather"
    assert detect("{{ '[call ' + name + ']' }}…{{ '[/call]' }}").tool_parser == acorn


def test_a_file_without_a_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nothing.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="defines no Family"):
        load_plugin(tmp_path / "nothing.py")
