"""The command line. Each command is a module of ``portico.commands``, loaded only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import rich_click as click
from click.exceptions import Exit

from portico import __version__
from portico.errors import PorticoError
from portico.terminal import shown

__all__ = ["main"]

COMMANDS = (
    "serve",
    "chat",
    "batch",
    "pull",
    "models",
    "render",
    "detokenize",
    "formats",
    "parse",
    "trace",
    "replay",
    "store",
    "keys",
)


class LazyGroup(click.RichGroup):
    """A group that imports a command when it is called, or listed: no command waits for another's imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"portico.commands.{cmd_name}").command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="portico")
def cli() -> None:
    """The front door of a language model: OpenAI's and Anthropic's APIs over any token-level engine.

    Try 'portico serve': it fetches a small real model and answers on http://127.0.0.1:8000.
    """


def main() -> None:
    """Entry point: errors meant for people are printed as one line, with exit status 1."""
    try:
        cli(standalone_mode=False)
    except Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except PorticoError as error:
        click.secho(f"portico: {shown(error.message)}", fg="red", err=True)
        sys.exit(1)
