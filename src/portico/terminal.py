"""What people read on a terminal: nothing that came from elsewhere reaches it as control.

A terminal obeys what it is sent: it can be made to retitle itself, to move text, to type. Names, texts and errors come
from models, clients and servers, so what is printed goes through here: control characters but line end and tab are
shown as pictures. What styles it is put around it afterwards. Pipes and files get texts as they are, logs do not.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

__all__ = ["JsonLogFormatter", "LogFormatter", "ShortLogFormatter", "Terminal", "echo", "shown", "waiting"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def shown(text: str) -> str:
    """``text`` with what can be seen in place of control characters: ``␛`` for an escape."""
    return _CONTROL.sub(_picture, text)


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"\\x{code:02x}"


def echo(text: str | bytes, *, nl: bool = True, err: bool = False) -> None:
    """Print ``text``: as it is to a pipe or a file, ``shown`` on a terminal."""
    if (sys.stderr if err else sys.stdout).isatty():
        text = shown(text if isinstance(text, str) else text.decode("utf-8", "replace"))
    click.echo(text, nl=nl, err=err)


UNBOUNDED = 100_000  # columns of what is no terminal: programs read lines whole


class Terminal(Console):
    """Rich's console, whose texts are ``shown`` where it writes to a terminal. Nothing is shortened: in a narrow
    terminal names, paths and numbers of tables go on in the next line, and into a pipe a row is a line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if not self.is_terminal and "width" not in settings and "COLUMNS" not in os.environ:
            self.width = UNBOUNDED

    def print(self, *objects: Any, **how: Any) -> None:
        """As ``Console.print``."""
        for table in objects:
            for column in table.columns if isinstance(table, Table) else ():
                column.overflow, column.no_wrap = "fold", False
        super().print(*objects, **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As ``Console.render``."""
        for segment in super().render(renderable, options):
            if segment.control or not self.is_terminal:
                yield segment
            else:
                yield Segment(shown(segment.text), segment.style)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on standard error, if that is a terminal, what is done meanwhile and how long it has taken so far."""
    console = Terminal(stderr=True)
    if not console.is_terminal:
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bars.add_task(what, total=None)
        yield


class LogFormatter(logging.Formatter):
    """A line is a line, and shows what is in it, wherever logs are read."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown(super().formatMessage(record)).replace("\n", "␊")

    def format(self, record: Any) -> str:
        return shown(super().format(record))


class ShortLogFormatter(LogFormatter):
    """For terminals: of a record that has a ``short`` form, that."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = getattr(record, "short", record.message)
        return super().formatMessage(record)


class JsonLogFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, the record's ``fields`` if it has some, and the exception."""

    def format(self, record: logging.LogRecord) -> str:
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": getattr(record, "short", record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found)
