"""``portico chat`` on a real terminal, and in a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.pages import ANSWERS, PARSERS, WEATHER
from support.pictures import png, url
from support.replay import Replaying, replaying
from support.tty import on_terminal

SEEING = frozenset({"generate", "logprobs", "constraints", "vision"})
TABLE = "# Head\n\n| a | b |\n|---|---|\n| one | two |\n\n- **bold** item\n\nThe end."


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(
        {**ANSWERS, "table": TABLE, "endless": "The quick brown fox. " * 2000},
        interval=0.02,
        capabilities=SEEING,
        **PARSERS,
    ) as up:
        yield up


def test_a_talk(server: Replaying, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([WEATHER]))
    image = tmp_path / "red.png"
    image.write_bytes(png("red"))
    with on_terminal("chat", "--url", f"{server.url}/v1", home=tmp_path) as terminal:
        terminal.expect(">")
        terminal.type("half a line\x03")  # Ctrl-C clears the line
        terminal.expect(">")
        terminal.paste("first line\nsecond line [[table]]")
        terminal.type("\r")
        shown = terminal.expect("tokens, ")
        assert "bold item" in shown
        assert "**bold**" not in shown.rpartition("bold item")[0].rpartition("\n")[2]
        assert "half" not in server.prompts[-1]
        assert "first line\nsecond line" in server.prompts[-1]  # one message

        terminal.type("[[endless]]\r")
        terminal.expect("The quick brown fox")
        terminal.type("\x03")  # Ctrl-C stops the answer
        told = terminal.expect("interrupted")
        assert int(told.rpartition(" tokens, ")[0].split()[-1]) > 0
        terminal.expect(">")

        terminal.type(f"/tools {tools}\r")
        terminal.expect("1 tools are offered")
        terminal.type("[[call]]\r")
        terminal.expect("thinking")
        terminal.expect("Which city?")
        terminal.expect("I look it up.")
        terminal.expect("[get_weather]")
        terminal.expect("tool_calls")
        for said, seen in (
            ("/halp", "Did you mean /help?"),
            ("/help", "/system [TEXT]"),
            ("/system Be kind.", "System: Be kind."),
            ("/set temperature warm", "temperature is a number, not 'warm'"),
            ("/set temperature 0.25", ">"),
            ("/set", '"temperature": 0.25'),
            ("/model", "tiny"),
            ("/raw", "as they are written"),
            (f"/image {tools}", "is no picture"),
            (f"/image {image}", "next message: 1."),
            ("What is red? [[plain]]", "Two <b>words</b>."),
            (f"/save {tmp_path}/talk.json", "Kept in"),
            (f"/load {tmp_path}/talk.json", "messages."),
        ):
            terminal.expect(">") if seen != ">" else None
            terminal.type(said + "\r")
            terminal.expect(seen)
        kept = json.loads((tmp_path / "talk.json").read_text())
        assert kept["messages"][0] == {"role": "system", "content": "Be kind."}
        assert kept["fields"]["temperature"] == 0.25
        assert kept["messages"][-2]["content"] == [
            {"type": "image_url", "image_url": {"url": url("red")}},
            {"type": "text", "text": "What is red? [[plain]]"},
        ]
        terminal.type("[[plain]]\r")
        terminal.expect("Two <b>words</b>.")
        terminal.expect(">")
        terminal.type("\x1b[A")  # the line before
        terminal.expect("[[plain]]")
        terminal.type("\x03/bye\r")
        assert terminal.wait() == 0
    kept_lines = [file.read_text() for file in tmp_path.rglob("chat_history")]
    assert "second line" in kept_lines[0]


def test_ctrl_d_ends_it_and_a_refusal_does_not(server: Replaying, tmp_path: Path) -> None:
    with on_terminal("chat", "nobody", "--url", f"{server.url}/v1", home=tmp_path) as terminal:
        terminal.expect(">")
        terminal.type("\x03")
        terminal.expect("Ctrl-D or /bye")
        terminal.type("Hello\r")
        terminal.expect("failed")
        terminal.expect("There is no such model")
        terminal.expect(">")
        terminal.type("/model tiny\r")
        terminal.expect("Now tiny.")
        terminal.type("[[plain]]\r")
        terminal.expect("Grüße!")
        terminal.expect(">")
        terminal.type("\x04")
        assert terminal.wait() == 0


def piped(*arguments: str) -> Any:
    command = [sys.executable, "-m", "portico", "chat", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)


def test_one_question(server: Replaying, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([WEATHER]))
    done = piped("What is it? [[table]]", "--url", f"{server.url}/v1", "--stop", "The end", "--top-p", "0.5")
    assert done.stdout.strip() == TABLE.removesuffix("The end.").strip()
    assert server.requests[-1].sampling.top_p == 0.5
    done = piped("Weather? [[call]]", "--url", f"{server.url}/v1", "--tools", str(tools), "--json")
    found = json.loads(done.stdout)
    assert found["reasoning"] == "Which city?"
    assert json.loads(found["tool_calls"][0]["arguments"]) == {"city": "Köln 🐌", "days": 3}
    assert found["finish_reason"] == "tool_calls"
    tools.write_text("{")
    done = piped("Weather?", "--url", f"{server.url}/v1", "--tools", str(tools))
    assert done.returncode == 2
    assert str(tools) in done.stderr.replace("\n", "")
