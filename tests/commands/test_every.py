"""What holds for every command: help that a pipe can read, JSON for programs, completion of names that are known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

import click
import pytest
import rich_click

from portico.cli import COMMANDS, write_plainly
from portico.commands.options import completed


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by what is typed for it; groups count where they do."""
    waiting = [(name, import_module(f"portico.commands.{name}").command) for name in COMMANDS]
    for name, command in waiting:
        if isinstance(command, click.Group):
            waiting += [(f"{name} {inner}", one) for inner, one in command.commands.items()]
            if not command.invoke_without_command:
                continue
        yield name, command


EVERY = dict(commands())


def words(text: str) -> str:
    return " ".join(text.split())


def test_help_in_a_pipe_is_whole_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option is a line of its own with all its words; nothing is a colour, a box or a mark of either."""
    for owner, name in ((rich_click.rich_click, "THEME"), (rich_click.rich_click, "WIDTH")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(rich_click.RichContext, "formatter_class", rich_click.RichContext.formatter_class)
    for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    write_plainly()
    for name, command in EVERY.items():
        context = command.make_context(name, [], resilient_parsing=True)
        lines = [words(line) for line in command.get_help(context).splitlines()]
        assert not re.search(r"\x1b|\[/?(bold|dim|cyan|red)|[│╭╰─]", "\n".join(lines)), name
        assert max(map(len, lines)) < 2000, name
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                whole = words(option.help or "")
                assert any(option.opts[0] in line and whole in line for line in lines), (name, option.opts, whole)


def test_every_command_speaks_json() -> None:
    without = [name for name, one in EVERY.items() if not any("--json" in param.opts for param in one.params)]
    assert without == []


def test_a_shell_knows_models_and_parsers_wherever_they_are_named() -> None:
    known = ("model", "embedding_model", "tool_parser", "reasoning_parser")
    seen = set()
    for name, command in EVERY.items():
        context = click.Context(command)
        for param in command.params:
            if param.name in known:
                seen.add(param.name)
                assert param.shell_complete(context, ""), (name, param.name)
    assert seen == set(known)
    assert "hermes" in completed("format")(None, None, "her")  # type: ignore[misc]
