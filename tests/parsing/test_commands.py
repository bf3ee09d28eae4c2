"""``portico parse`` and ``portico formats`` as people call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from portico.commands.formats import command as formats
from portico.commands.parse import command as parse
from portico.errors import PorticoError
from portico.parsing import families
from portico.parsing.recoveries import WHY
from support.streams import TOOL_PARSERS

ANSWER = '<think>\nhm\n</think>\n\nLet me see.\n<tool_call>\n{"name": "ping", "arguments": {"host": "ö"}}\n</tool_call>'
NAMES = ["--tool-parser", "hermes", "--reasoning-parser", "qwen3"]


def run(command: Any, *arguments: str, text: str = "") -> str:
    result = CliRunner().invoke(command, list(arguments), input=text, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_parse_gives_the_message_under_any_cut() -> None:
    whole = json.loads(run(parse, *NAMES, text=ANSWER))
    assert (whole["reasoning"], whole["content"], whole["finish_reason"]) == ("hm", "Let me see.", "tool_calls")
    assert [(call["name"], call["arguments"]) for call in whole["tool_calls"]] == [("ping", '{"host": "ö"}')]
    for cut in ("char", "3", "random:5"):
        found = json.loads(run(parse, *NAMES, "--cut", cut, text=ANSWER))
        for call in (*found["tool_calls"], *whole["tool_calls"]):
            call.pop("id", None)
        assert found == whole


def test_parse_shows_events(tmp_path: Path) -> None:
    (tmp_path / "answer.txt").write_text(ANSWER, encoding="utf-8")
    lines = [json.loads(line) for line in run(parse, *NAMES, "--events", str(tmp_path / "answer.txt")).splitlines()]
    assert [line["event"] for line in lines] == [
        "Reasoning",
        "Content",
        "CallStart",
        "CallArguments",
        "CallEnd",
        "Finish",
    ]


def test_parse_takes_tools_a_prompt_tail_and_a_template(tmp_path: Path) -> None:
    tools = [
        {"type": "function", "function": {"name": "dial", "parameters": {"properties": {"n": {"type": "string"}}}}}
    ]
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    (tmp_path / "template.jinja").write_text("<tool_call>\n<function=\n<parameter=\n<think>")
    text = "so</think><tool_call>\n<function=dial>\n<parameter=n>\n007\n</parameter>\n</function>\n</tool_call>"
    given = ["--tools", str(tmp_path / "tools.json"), "--template", str(tmp_path / "template.jinja")]
    found = json.loads(run(parse, *given, "--prompt-tail", "<think>\n", text=text))
    assert found["reasoning"] == "so"
    assert found["tool_calls"][0]["arguments"] == '{"n": "007"}'


def test_parse_explains_what_was_mended(tmp_path: Path) -> None:
    tools = [{"name": "ping", "parameters": {"type": "object", "properties": {"host": {"type": "string"}}}}]
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    given = ["--tool-parser", "hermes", "--tools", str(tmp_path / "tools.json"), "--explain"]
    whole = '<tool_call>{"name": "ping", "arguments": {"host": "a"}}</tool_call>'
    assert "0 recoveries; 1 call\n" in run(parse, *given, text=whole)
    told = run(parse, *given, text=whole.replace("arguments", "args"))
    kind = "arguments under another name"
    assert f"{kind}: {WHY[kind]}\n" in told
    assert "1 recovery; 1 call\n" in told
    assert "2 recoveries; 1 call\n" in run(parse, *given, text="<tool_call>" + whole.replace("arguments", "args"))


def test_parse_refuses_in_words(tmp_path: Path) -> None:
    with pytest.raises(PorticoError, match="unknown tool parser 'nope'"):
        run(parse, "--tool-parser", "nope")
    (tmp_path / "tools.json").write_text("{")
    with pytest.raises(PorticoError, match="not JSON"):
        run(parse, "--tools", str(tmp_path / "tools.json"))
    assert CliRunner().invoke(parse, ["--cut", "sometimes"], input="x").exit_code != 0


def test_formats_lists_every_family() -> None:
    listed = {row["family"]: row for row in json.loads(run(formats, "--json"))}
    assert set(listed) == set(families())
    assert all(row["example"] for row in listed.values() if row["tool_parsers"] and row["family"] != "kimi_vl")
    assert "hermes" in run(formats)


@pytest.mark.parametrize("name", TOOL_PARSERS)
def test_formats_shows_every_format(name: str) -> None:
    facts = json.loads(run(formats, "show", name, "--json"))
    assert facts["sample"]
    assert "start:" in facts["grammar"]
    assert facts["markers"] or name == "json"  # brackets are no markers


def test_formats_show_for_people_and_for_unknown_names() -> None:
    shown = run(formats, "show", "hermes")
    assert "<tool_call>" in shown
    assert "grammar" in shown
    with pytest.raises(PorticoError, match="no format named"):
        run(formats, "show", "nope")


def test_formats_detects(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ '[TOOL_CALLS]' }}")
    assert "mistral" in run(formats, "detect", str(tmp_path / "t.jinja"))
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    assert json.loads(run(formats, "detect", str(tmp_path / "t.jinja"), "--json"))["family"] is None
