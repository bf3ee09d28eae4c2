"""What a start costs, counted: what is imported for what."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from portico import commands
from portico.cli import COMMANDS, cli

IMPORTED = """
import json, sys
from contextlib import suppress
sys.argv = ["portico", *sys.argv[1:]]
with suppress(SystemExit):
    {statement}
json.dump(sorted({{name.partition(".")[0] for name in sys.modules}} & set({heavy})), sys.stderr)
"""

HEAVY = {
    *("alembic", "asyncio", "cryptography", "fastokens", "grpc", "gguf", "httpx", "huggingface_hub", "jinja2"),
    *("llguidance", "msgspec", "numpy", "orjson", "prometheus_client", "pydantic", "pydantic_settings", "pygments"),
    *("regex", "sentencepiece", "sqlalchemy", "starlette", "tiktoken", "tokenizers", "uvicorn", "uvloop"),
    *("websockets", "xllamacpp"),
}
TERMINAL = {"click", "rich", "rich_click"}


def imported(statement: str, *arguments: str) -> set[str]:
    """Which heavy packages are there after a program has run."""
    program = IMPORTED.format(statement=statement, heavy=sorted(HEAVY | TERMINAL))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    return set(json.loads(done.stderr))


def test_the_package_imports_nothing() -> None:
    assert imported("import portico") == set()


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_to_tell_what_there_is_takes_the_terminal_alone(arguments: list[str]) -> None:
    assert imported("from portico.cli import main; main()", *arguments) == TERMINAL


def test_a_server_imports_nothing_that_only_some_requests_want() -> None:
    wanted = {"alembic", "cryptography", "fastokens", "grpc", "gguf", "httpx", "huggingface_hub", "numpy", "pygments"}
    assert imported("import portico.server.process.lifecycle").isdisjoint(wanted)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_of_itself_what_the_list_says_of_it(name: str) -> None:
    called = import_module(f"portico.commands.{name}").command
    listed = cli.get_command(click.Context(cli), name)
    assert isinstance(called, click.Command)
    assert listed is not None
    assert called.name == listed.name == name
    assert listed.get_short_help_str(1000) == called.get_short_help_str(1000)
    assert cli.resolve_command(click.Context(cli), [name, "rest"]) == (name, called, ["rest"])


def test_every_command_is_listed() -> None:
    """A module of ``portico.commands`` that makes a command is one of the program's."""
    directory = Path(commands.__path__[0])
    modules = (path for path in directory.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    names = {path.stem for path in modules} - {"__init__"}
    assert {name for name in names if hasattr(import_module(f"portico.commands.{name}"), "command")} == set(COMMANDS)
