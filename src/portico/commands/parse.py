"""``portico parse``: what a model's text says, as JSON."""

from __future__ import annotations

import json
import random
from typing import Any, TextIO

import msgspec
import rich_click as click

from portico.commands.options import always_json, completed
from portico.errors import BadRequestError
from portico.events import Event
from portico.parsing import OutputParser, detect, load_plugin
from portico.parsing.folding import fold
from portico.parsing.recoveries import WHY
from portico.terminal import echo

__all__ = ["command"]


def _pieces(text: str, cut: str | None) -> list[str]:
    """The text as it would come: whole, by character, N characters at a time, or cut at random."""
    if cut is None:
        return [text]
    if cut == "char":
        return list(text)
    if cut.isdigit() and int(cut):
        return [text[at : at + int(cut)] for at in range(0, len(text), int(cut))]
    kind, _, seed = cut.partition(":")
    if kind != "random" or not seed.lstrip("-").isdigit():
        raise click.BadParameter("is a number of characters, 'char', or 'random:SEED'", param_hint="--cut")
    chance, found, at = random.Random(int(seed)), [], 0
    while at < len(text):
        size = chance.randint(1, 12)
        found.append(text[at : at + size])
        at += size
    return found


def _tools(file: TextIO | None) -> list[dict[str, Any]] | None:
    if file is None:
        return None
    try:
        found = json.load(file)
    except ValueError as error:
        raise BadRequestError(f"{file.name} is not JSON: {error}", param="tools") from None
    found = found.get("tools", found) if isinstance(found, dict) else found
    if not isinstance(found, list):
        raise BadRequestError(f"{file.name} must hold a list of tools in OpenAI's shape.", param="tools")
    return found


def _shown(event: Event) -> dict[str, Any]:
    return {"event": type(event).__name__, **msgspec.to_builtins(event)}


def _explain(parser: OutputParser) -> None:
    """Every recovery and why it was made, and what reading came to."""
    for kind, around in parser.recoveries:
        echo(f"{kind}: {WHY[kind]}\n    {json.dumps(around, ensure_ascii=False)}", err=True)
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in parser.outcomes.items() if count)
    made = len(parser.recoveries)
    echo(f"{made} {'recovery' if made == 1 else 'recoveries'}; {counts or 'no call'}", err=True)


@click.command("parse")
@click.argument("file", type=click.File(encoding="utf-8"), default="-")
@click.option(
    "--tool-parser",
    metavar="NAME",
    shell_complete=completed("tool_parser"),
    help="A tool parser, one of those that 'portico formats' lists.",
)
@click.option(
    "--reasoning-parser", metavar="NAME", shell_complete=completed("reasoning_parser"), help="A reasoning parser."
)
@click.option("--parser-plugin", type=click.Path(exists=True, dir_okay=False), help="A Python file with more families.")
@click.option("--template", type=click.File(encoding="utf-8"), help="Find both in this chat template.")
@click.option("--tools", type=click.File(encoding="utf-8"), help="The request's tools, JSON: they type the arguments.")
@click.option("--prompt-tail", default="", metavar="TEXT", help="How the prompt ended: is a thought open already?")
@click.option("--cut", metavar="N|char|random:SEED", help="Let the text come in pieces.")
@click.option("--finish-reason", type=click.Choice(["stop", "length"]), default="stop", show_default=True)
@click.option("--explain", is_flag=True, help="Show on standard error what was mended, and where.")
@click.option("--events", is_flag=True, help="One event a line instead of the message.")
@always_json
def command(
    file: TextIO,
    tool_parser: str | None,
    reasoning_parser: str | None,
    parser_plugin: str | None,
    template: TextIO | None,
    tools: TextIO | None,
    prompt_tail: str,
    cut: str | None,
    finish_reason: str,
    explain: bool,
    events: bool,
) -> None:
    """Read model output from FILE or standard input: reasoning, content, tool calls, as JSON.

    Without --tools every name may be called and bare values are typed by what they look like.

    Examples:

      echo '<think>hm</think>Yes.' | portico parse --reasoning-parser qwen3
    """
    if parser_plugin is not None:
        try:
            load_plugin(parser_plugin)
        except ValueError as error:
            raise BadRequestError(str(error), param="parser_plugin") from None
    if template is not None:
        found = detect(template.read())
        tool_parser, reasoning_parser = tool_parser or found.tool_parser, reasoning_parser or found.reasoning_parser
    text = file.read()
    declared = _tools(tools)
    if declared is None and tool_parser is not None:
        declared = [{"type": "function", "function": {"name": ""}}]  # some tool, so that calls are looked for
    try:
        parser = OutputParser(tool_parser, reasoning_parser, tools=declared, prompt_tail=prompt_tail)
    except ValueError as error:
        raise BadRequestError(str(error)) from None
    said: list[Event] = []
    for piece in _pieces(text, cut):
        said += parser.feed(piece)
    said += parser.close(finish_reason)
    if explain:
        _explain(parser)
    if events:
        for event in said:
            echo(json.dumps(_shown(event), ensure_ascii=False))
    else:
        echo(json.dumps(msgspec.to_builtins(fold(said)), ensure_ascii=False, indent=2))
