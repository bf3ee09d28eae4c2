"""``portico store``: what a server keeps, from the terminal; the server may run meanwhile."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import rich_click as click
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from portico.commands.options import always_json, settings_from, settings_options
from portico.commands.upkeep import upkeep_of
from portico.errors import StoreError
from portico.terminal import Terminal, echo

if TYPE_CHECKING:
    from portico.store import Info

__all__ = ["command"]

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("store")
def command() -> None:
    """Look after what a server keeps: responses and conversations.

    It is the store that 'portico serve' would use: --store, PORTICO_STORE, or the file in the user's data directory.

    Examples:

      portico store info

      portico store export --output backup.jsonl

      portico store migrate --store postgresql://portico@db/portico
    """


@command.command("info")
@settings_options(["store"])
@AS_JSON
def info(config: Path | None, as_json: bool, **given: Any) -> None:
    """Say what is kept, where, and how much of it."""
    found = upkeep_of(settings_from(config, given)).info()
    if as_json:
        echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _told(found).items():
        table.add_row(name, value)
    Terminal(highlight=False).print(table)


@command.command("vacuum")
@settings_options(["store"])
@AS_JSON
def vacuum(config: Path | None, as_json: bool, **given: Any) -> None:
    """Give the room of what was deleted back to the system. Writers wait meanwhile."""
    before, after = upkeep_of(settings_from(config, given)).vacuum()
    if as_json:
        echo(json.dumps({"bytes_before": before, "bytes_after": after}))
    else:
        Terminal(highlight=False).print(f"{decimal(before)} before, [bold]{decimal(after)}[/bold] now")


@command.command("migrate")
@settings_options(["store"])
@AS_JSON
def migrate(config: Path | None, as_json: bool, **given: Any) -> None:
    """Make the tables, or bring an older version's to this one's. A server does the same when it starts."""
    before, after = upkeep_of(settings_from(config, given)).migrate()
    if as_json:
        echo(json.dumps({"before": before, "after": after}))
        return
    told = "were up to date" if before == after else f"were at {before}" if before else "are made"
    Terminal(highlight=False).print(f"The tables {told}: [bold]{after}[/bold]")


@command.command("export")
@settings_options(["store"])
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; stdout if absent.")
@always_json
def export(config: Path | None, output: Path | None, **given: Any) -> None:
    """Write all responses and conversations as JSON Lines, each with the digest of the key that it belongs to.

    What changes meanwhile may be in it or not; each line is whole.
    """
    upkeep = upkeep_of(settings_from(config, given))
    counts = upkeep.info().counts
    total = sum(counts.get(name, 0) for name in ("responses", "conversations", "conversation_items"))
    with _opened(output) as file, _bar(total, output is not None) as advance:
        for line in upkeep.export():
            file.write(line)
            advance()


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    if output is None:
        yield sys.stdout.buffer
        return
    try:
        with open(output, "xb", opener=_private) as file:
            yield file
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror}.") from None


def _private(path: str, flags: int) -> int:
    """What users have said is for their operator alone."""
    return os.open(path, flags, 0o600)


@contextmanager
def _bar(total: int, wanted: bool) -> Iterator[Callable[[], object]]:
    """Gives what to call after each line; draws a bar on a terminal."""
    console = Terminal(stderr=True)
    columns = (TextColumn("export"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=True, disable=not (wanted and console.is_terminal)) as bar:
        task = bar.add_task("export", total=total)
        yield lambda: bar.advance(task)


def _told(found: Info) -> dict[str, str]:
    told = {"place": found.place, "database": found.database, "size": decimal(found.bytes)}
    if found.tables != found.wanted:
        told["tables"] = f"{found.tables or 'none'}; this version needs {found.wanted}: 'portico store migrate'"
    for name, count in found.counts.items():
        told[name.replace("_", " ")] = f"{count:,}"
    for name, moment in (("oldest", found.oldest), ("newest", found.newest)):
        if moment is not None:
            told[name] = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return told
