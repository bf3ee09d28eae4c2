"""The real Claude Code on a task of several turns, over a model that plays a script.

The agent runs as its users run it, in an empty home and a directory of its own, without telemetry or updates, with a
key that is none, and nothing but this machine within reach. Each answer of the model is chosen by the last ``[[name]]``
in its prompt: what the agent is asked, reads or writes brings the next one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agents import call, run_agent
from support.js import installed
from support.replay import Replaying, replaying

pytestmark = pytest.mark.agents

PACKAGE = Path(__file__).parent
TASK = "[[begin]] Read notes.txt, correct it as it says, and copy it to copy.txt."
OLD, NEW = "Grüße an die Welt", "Grüße an 世界 🗼"


def script(directory: Path) -> dict[str, str]:
    """What the model says: it reads, edits what it has read, runs a command, and sums up."""
    notes = str(directory / "notes.txt")
    copy = f"cp '{notes}' '{directory / 'copy.txt'}' && echo '[[copied]]'"
    return {
        "begin": f"<think>\nFirst I look.\n</think>\n\nI read it.\n{call('Read', file_path=notes)}",
        "seen": "<think>\nOne line.\n</think>\n\n"
        + call("Edit", file_path=notes, old_string=OLD, new_string=f"{NEW} [[edited]]"),
        "edited": call("Bash", command=copy, description="Copy the notes"),
        "copied": "The notes are corrected and copied. 🎉",
    }


@pytest.fixture(scope="module")
def claude() -> str:
    """The agent's program, which a package for this kind of machine holds."""
    programs = (installed(PACKAGE, "Claude Code") / "@anthropic-ai").glob("claude-code-*/claude*")
    program = next((one for one in programs if one.is_file() and os.access(one, os.X_OK)), None)
    if program is None:
        pytest.skip("there is no Claude Code for this kind of machine")
    return str(program)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    found = tmp_path / "work"
    found.mkdir()
    (found / "notes.txt").write_text(f"[[seen]]\n{OLD}\n")
    return found


@pytest.fixture
def server(directory: Path) -> Iterator[Replaying]:
    with replaying(script(directory), tool_parser="hermes", reasoning_parser="qwen3", patterns=["*"]) as up:
        yield up


def run(claude: str, server: Replaying, directory: Path, *arguments: str) -> list[dict[str, Any]]:
    """The agent's own report, event by event."""
    home = directory.parent / "home"
    home.mkdir()
    names = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{size}_MODEL" for size in ("HAIKU", "SONNET", "OPUS")))
    done = run_agent(
        [claude, "-p", TASK, "--output-format", "stream-json", "--verbose", *arguments],
        directory,
        home,
        **dict.fromkeys(names, "tiny"),
        ANTHROPIC_BASE_URL=server.url,
        ANTHROPIC_AUTH_TOKEN="none",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_TELEMETRY="1",
        DISABLE_ERROR_REPORTING="1",
        DISABLE_AUTOUPDATER="1",
    )
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_a_task_of_several_turns(claude: str, server: Replaying, directory: Path) -> None:
    assert shutil.which("cp")
    events = run(claude, server, directory, "--allowedTools", "Read,Edit,Bash", "--permission-mode", "acceptEdits")
    result = events[-1]
    assert (result["type"], result["subtype"], result["is_error"]) == ("result", "success", False)
    assert result["result"] == "The notes are corrected and copied. 🎉"
    for name in ("notes.txt", "copy.txt"):
        assert (directory / name).read_text() == f"[[seen]]\n{NEW} [[edited]]\n"
    blocks = [block for event in events if event["type"] == "assistant" for block in event["message"]["content"]]
    assert [block["name"] for block in blocks if block["type"] == "tool_use"] == ["Read", "Edit", "Bash"]
    results = [
        block
        for event in events
        if event["type"] == "user"
        for block in event["message"]["content"]
        if block["type"] == "tool_result"
    ]
    assert [bool(block.get("is_error")) for block in results] == [False, False, False]
    turns = [prompt for prompt in server.prompts if "[tool Read]" in prompt]
    assert len(turns) == 4
    for turn in turns:
        assert TASK in turn
    assert NEW in turns[-1]
