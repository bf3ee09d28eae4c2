"""The command line. Each command is a module of ``portico.commands``, loaded only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import rich_click as click
from click.exceptions import Exit

from portico import __version__
from portico.errors import PorticoError
from portico.spelling import meant
from portico.terminal import shown

__all__ = ["main"]

COMMANDS = {  # with what the list of them says; they are imported when they are called
    "serve": "Serve MODEL (smollm2 if none is named; it is fetched if absent).",
    "engine": "Run the engine of MODEL for front doors on other machines.",
    "chat": "Talk to MODEL (smollm2 if none is named). With PROMPT, or text on standard input: one answer, then the "
    "end.",
    "doctor": "Look at this machine: what it has, what would be used, what is missing and the command that mends it.",
    "batch": "Run many requests at once, from a file of OpenAI's batch lines.",
    "bench": "Measure a running server: answers and events per second, waiting times, processor time.",
    "pull": "Fetch MODEL so that it can be used offline.",
    "models": "List the models on this machine, and those that 'portico pull' knows by name.",
    "ps": "List the models that a server has loaded.",
    "stop": "Unload MODEL at a server, once its answers have ended.",
    "show": "Show what is known of MODEL: architecture, context, parsers, quantisation, size.",
    "rm": "Delete the files of MODEL, which 'portico pull' or 'portico serve' has fetched; it asks first.",
    "render": "Show the prompt that MESSAGES become, and its tokens.",
    "detokenize": "Turn token IDS into text, as a stream would.",
    "formats": "List the output formats: which parsers there are, for which models.",
    "parse": "Read model output from FILE or standard input: reasoning, content, tool calls, as JSON.",
    "trace": "Show what the layers of a server made of a request.",
    "replay": "Run the request in FILE again, with the engine's recorded steps and today's code, and show the first "
    "difference.",
    "store": "Look after what a server keeps: responses and conversations.",
    "keys": "Make API keys with names and limits, and take them back.",
    "usage": "Show how many requests and tokens were used. Running servers write it down every few seconds.",
}

WIDE = 3000  # columns, more than any line of the help has


class LazyGroup(click.RichGroup):
    """A group that imports a command when it is called: no command waits for another's imports, and no list for any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command as it is listed."""
        return click.Command(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A command as it is called."""
        if args and args[0] not in (*COMMANDS, "") and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = meant(args[0], COMMANDS)
            hint = f" Did you mean '{near}'?" if near else " 'portico --help' lists them."
            raise click.UsageError(f"There is no command '{args[0]}'.{hint}", ctx)
        name, listed, rest = super().resolve_command(ctx, args)
        return name, None if listed is None else import_module(f"portico.commands.{listed.name}").command, rest


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="portico")
def cli() -> None:
    """The front door of a language model: OpenAI's and Anthropic's APIs over any token-level engine.

    Try 'portico serve': it fetches a small real model and answers on http://127.0.0.1:8000.
    """


class PlainFormatter(click.RichHelpFormatter):
    """Help for what is no terminal: an option is a line, however long; no boxes, no colours."""

    def getvalue(self) -> str:
        return "\n".join(line.rstrip() for line in super().getvalue().splitlines()) + "\n"


def write_plainly() -> None:
    """Write help as pipes and files want it."""
    click.rich_click.THEME, click.rich_click.WIDTH = "default-slim", WIDE
    click.RichContext.formatter_class = PlainFormatter


def main() -> None:
    """Entry point: errors meant for people are printed as one line, with exit status 1."""
    if not sys.stdout.isatty():
        write_plainly()
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
