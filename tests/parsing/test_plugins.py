"""A family from outside: a file, and one that replaces a family of the same name."""

from __future__ import annotations

from pathlib import Path

import pytest

from portico.parsing import OutputParser, detect, families, load_plugin, parse, render_calls, tool_names

PAGE = """
from portico.parsing.bodies import JsonObject
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning

ACME = Family(
    "acme",
    models="Acme 1",
    tools={"acme": Calls(JsonObject(), open="<acme:call>", close="</acme:call>")},
    reasoning={"acme": Reasoning("<acme:think>", "</acme:think>")},
    clues=(Clues(("<acme:call>",), tools="acme", reasoning="acme"),),
)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "acme.py"
    path.write_text(PAGE)
    return path


def test_a_page_in_a_file_is_a_family_like_any_other(plugin: Path) -> None:
    with pytest.raises(ValueError, match="unknown tool parser 'acme'"):
        OutputParser("acme")
    assert [family.name for family in load_plugin(plugin)] == ["acme"]
    assert "acme" in tool_names()
    assert "acme" in families()
    text = "<acme:think>so</acme:think>" + render_calls([{"name": "f", "arguments": {"a": 1}}], "acme")
    found = parse(text, "acme", "acme", tools=[{"name": "f"}])
    assert (found.reasoning, [call.arguments for call in found.tool_calls]) == ("so", ['{"a": 1}'])
    assert detect("… <acme:call> …").tool_parser == "acme"


def test_files_that_are_no_pages(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a Python file"):
        load_plugin(tmp_path / "absent.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="defines no Family"):
        load_plugin(tmp_path / "empty.py")
