"""Nothing that came from elsewhere reaches a terminal as control: not from a command, not from a log."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

import portico
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
