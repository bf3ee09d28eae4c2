"""``portico parse``: model output in, what it means out, through the same machine that the server runs."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rich_click as click
from msgspec import to_builtins

from portico.commands.formats import load_plugins, plugins
from portico.events import Event
from portico.parsing import OutputParser
from portico.parsing.machine import fold

__all__ = ["command"]


@click.command("parse")
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
@click.option("--tool-parser", help="A name of 'portico formats'.")
@click.option("--reasoning-parser", help="A name of 'portico formats'.")
@click.option("--tools", "tools_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="JSON file with the request's tools, in OpenAI's shape; they type the arguments.")  # fmt: skip
@click.option("--prompt-tail", default="", help="How the prompt ended: tells whether a thought is open.")
@click.option("--cut", default="whole", show_default=True, help="Pieces: whole, char, N characters, random:SEED.")
@click.option("--finish-reason", default="stop", show_default=True, help="How the engine ended: stop, length, …")
@click.option("--events", is_flag=True, help="Show each event and the piece that decided it, as JSON lines.")
@plugins
def command(
    file: Any,
    tool_parser: str | None,
    reasoning_parser: str | None,
    tools_file: Path | None,
    prompt_tail: str,
    cut: str,
    finish_reason: str,
    events: bool,
    plugin_files: tuple[Path, ...],
) -> None:
    """Read model output from FILE (standard input if none) and print it as JSON: reasoning, content, tool calls.

    Without --tools every call that the text makes counts; with them, arguments are typed by their schemas.

    \b
    portico parse --tool-parser hermes answer.txt
    echo '<think>hm</think>yes' | portico parse --reasoning-parser qwen3 --events --cut char
    """
    load_plugins(plugin_files)
    text = file.read()
    tools = _tools(tools_file)
    try:
        parser = OutputParser(tool_parser, reasoning_parser, tools=tools, prompt_tail=prompt_tail)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    found: list[Event] = []
    for piece in _pieces(text, cut):
        new = parser.feed(piece)
        found += new
        if events:
            _show(piece, new)
    last = parser.close(finish_reason)
    found += last
    if events:
        _show(None, last)
        return
    message = to_builtins(fold(found))
    message["outcomes"] = dict(parser.outcomes)
    json.dump(message, sys.stdout, ensure_ascii=False, indent=2)
    print()


def _tools(file: Path | None) -> list[Any]:
    if file is None:
        return [{"type": "function", "function": {"name": "any"}}]  # so that tool markup means something
    try:
        tools = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise click.UsageError(f"{file.name} is not valid JSON: {error}") from None
    if not isinstance(tools, list):
        raise click.UsageError(f"{file.name} must hold a list of tools")
    return tools


def _pieces(text: str, cut: str) -> Iterator[str]:
    if cut == "whole":
        yield text
    elif cut == "char" or (cut.isdigit() and int(cut) > 0):
        size = 1 if cut == "char" else int(cut)
        for at in range(0, len(text), size):
            yield text[at : at + size]
    elif cut.startswith("random:") and cut[7:].isdigit():
        draw = random.Random(int(cut[7:]))
        at = 0
        while at < len(text):
            size = draw.randint(1, 12)
            yield text[at : at + size]
            at += size
    else:
        raise click.UsageError("--cut takes whole, char, a number of characters, or random:SEED")


def _show(piece: str | None, events: list[Event]) -> None:
    for event in events:
        line = {"after": piece, "event": type(event).__name__, **to_builtins(event)}
        print(json.dumps(line, ensure_ascii=False))
