"""Nothing that came from elsewhere reaches a terminal as control: not from a command, not from a log."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

import portico
from portico.commands.options import setting_groups
from portico.config import Settings
from portico.terminal import LogFormatter, Terminal, shown

STYLE = re.compile(r"\x1b\[[0-9;]*m")  # what rich puts around a text
EVIL = "\x1b]0;title\x07 \x1b[2J \x9b31m \x08\x7f \r gone"


def controls(text: str) -> list[str]:
    return [c for c in STYLE.sub("", text) if (ord(c) < 32 or 127 <= ord(c) < 160) and c not in "\n\t"]


@settings(deadline=None)
@given(text=st.text(st.characters(max_codepoint=0x200)))
def test_what_is_shown_has_no_controls_and_loses_nothing_else(text: str) -> None:
    assert not controls(shown(text))
    kept = [c for c in text if not controls(c)]
    assert [c for c in kept if c not in shown(text)] == []
    assert shown(shown(text)) == shown(text)


def test_a_console_shows_and_still_styles() -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, color_system="standard", width=200)
    table = Table(EVIL)
    table.add_row(Text(EVIL, style="red"), style="bold")
    console.print(table)
    console.print(EVIL, style="red", markup=False)
    console.print(f"[bold]{EVIL}[/bold]")
    assert not controls(out.getvalue())
    assert "\x1b[31m" in out.getvalue()
    assert "␛]0;title" in out.getvalue()


def test_a_file_gets_it_as_it_is() -> None:
    out = io.StringIO()
    Terminal(file=out, width=200).print("\x1b[2J", markup=False, highlight=False)
    assert "\x1b[2J" in out.getvalue()


def test_nothing_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "/a/very/long/path/" + "x" * 300
    for console in (Terminal(file=(out := io.StringIO())), Terminal(file=out, force_terminal=True, width=40)):
        out.seek(out.truncate(0))
        table = Table("name", "path")
        table.add_column("more", no_wrap=True, overflow="ellipsis", max_width=5)
        table.add_row("one", long, "twelve words")
        console.print(table)
        said = re.sub(r"[^a-z/]", "", STYLE.sub("", out.getvalue()))
        assert said.count("x") == 300
        assert "…" not in out.getvalue()
        assert console.is_terminal or long in out.getvalue()  # a row is a line


def test_a_mistyped_command_is_understood(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "portico", "srve"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 2
    assert "Did you mean 'serve'?" in done.stderr


@pytest.mark.parametrize(
    ("words", "completed"), [("do", "doctor"), ("serve --tool-parser her", "hermes"), ("chat smol", "smollm2")]
)
def test_a_shell_completes_commands_parsers_and_models(words: str, completed: str) -> None:
    asked = {"_PORTICO_COMPLETE": "bash_complete", "COMP_WORDS": f"portico {words}"}
    asked["COMP_CWORD"] = str(len(words.split()))
    run = "import sys; sys.argv[0] = 'portico'; from portico.cli import main; main()"
    command = [sys.executable, "-c", run]
    done = subprocess.run(
        command, env={**os.environ, **asked}, capture_output=True, text=True, timeout=600, check=False
    )
    assert f"plain,{completed}" in done.stdout.split()


def test_the_settings_of_serve_are_in_groups() -> None:
    grouped = [name for _, names in setting_groups() for name in names]
    assert sorted(grouped) == sorted(Settings.model_fields)


def test_the_doctor_looks_at_this_machine() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "portico", "doctor", "--json", "--store", "none", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert {"cores", "memory", "GPU", "embedded engine", "vLLM", "models", "model", "store", "port"} <= set(found)
    assert found["port"]["state"] == "broken"
    assert "--port 0" in found["port"]["mend"]
    assert done.returncode == 1
    assert found["embedded engine"]["state"] == "ok"


def test_a_line_of_a_log_is_one_line() -> None:
    record = logging.LogRecord("portico", logging.INFO, "", 0, "%s", (f"GET /\n2026 forged {EVIL}",), None)
    line = LogFormatter("%(levelname)s %(message)s").format(record)
    assert not controls(line)
    assert "\n" not in line
    try:
        raise ValueError(EVIL)
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "\nTraceback" in LogFormatter("%(message)s").format(record)
    assert not controls(LogFormatter("%(message)s").format(record))


def test_a_command_on_a_terminal() -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "portico", "parse", "--tool-parser", EVIL]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower)
    os.close(follower)
    said = b""
    try:
        while piece := os.read(leader, 1 << 16):
            said += piece
    except OSError:  # how the end of a terminal is told
        pass
    process.wait(120)
    os.close(leader)
    assert process.returncode != 0
    assert not controls(said.decode("utf-8", "replace").replace("\r\n", "\n"))


def test_every_command_prints_through_it() -> None:
    for file in (Path(portico.__file__).parent / "commands").rglob("*.py"):
        source = file.read_text()
        assert not re.search(r"\b(Console|click\.echo|print)\(", re.sub(r"\.print\(|_print\(", "", source)), file.name
