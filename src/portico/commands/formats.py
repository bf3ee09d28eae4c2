"""``portico formats``: the output formats of model families, what each looks like, and which one a template has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from portico.constraints import call_policy, compile_constraint
from portico.errors import PorticoError
from portico.parsing import detect, families, load_plugin, reasoning_names, render_calls, tool_names
from portico.parsing.family import Family
from portico.parsing.registry import program

__all__ = ["command"]

EXAMPLE_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
EXAMPLE_CALL = {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}, "id": "call_1"}

plugins = click.option(
    "--parser-plugin",
    "plugin_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Python file that defines further families.",
)


@click.group("formats", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@plugins
@click.pass_context
def command(context: click.Context, as_json: bool, plugin_files: tuple[Path, ...]) -> None:
    """List the formats that models write their reasoning and their tool calls in.

    \b
    portico formats
    portico formats show hermes
    portico formats detect chat_template.jinja
    """
    load_plugins(plugin_files)
    if context.invoked_subcommand is not None:
        return
    rows = [_facts(family) for family in families().values()]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    console = Console()
    wide = console.width >= 130
    names = f"{len(tool_names())} tool parsers, {len(reasoning_names())} reasoning parsers"
    table = Table(caption=f"{names}; 'portico formats show NAME' has the whole page")
    table.add_column("family", style="bold green")
    for column in ("models", "tool parsers", "reasoning parsers"):
        table.add_column(column)
    if wide:  # there is room for an example
        table.add_column("a call")
    for row in rows:
        cells = [row["family"], row["models"], ", ".join(row["tools"]), ", ".join(row["reasoning"])]
        if wide:
            call = (row["example"] or "").replace("\n", "⏎")
            cells.append(escape(call if len(call) <= 60 else call[:59] + "…"))
        table.add_row(*cells)
    console.print(table)


@command.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show one format: its markers, a call as the model writes it, and the grammar of a forced call."""
    tool_parser = name if name in tool_names() else None
    reasoning_parser = name if name in reasoning_names() else None
    by_family = families().get(name)
    if by_family is not None:
        tool_parser = tool_parser or next(iter(by_family.tools), None)
        reasoning_parser = reasoning_parser or next(iter(by_family.reasoning), None)
    if tool_parser is None and reasoning_parser is None:
        raise click.UsageError(f"no format is called {name!r}; 'portico formats' lists them all")
    console = Console()
    if "hf" in (tool_parser, reasoning_parser):
        console.print("The checkpoint's own format, read from its response template.")
        return
    described = program(tool_parser, reasoning_parser)
    console.print(f"[bold]{name}[/bold]: tool parser {tool_parser or '-'}, reasoning parser {reasoning_parser or '-'}")
    console.print("\n[bold]Markers[/bold]")
    for marker in sorted(described.special_tokens):
        console.print(f"  {marker}", markup=False)
    if tool_parser is None:
        return
    console.print("\n[bold]A call[/bold]")
    console.print(_example(tool_parser) or "(this format has no writer)", markup=False)
    console.print("\n[bold]Grammar of a forced call[/bold] (llguidance's Lark)")
    policy = call_policy([EXAMPLE_TOOL], "required")
    assert policy is not None
    calls = described.grammar(policy.tools, policy.high)
    if calls is None:
        console.print("(none)")
        return
    try:
        constraint = compile_constraint(policy=policy, calls=calls)
    except PorticoError as error:
        console.print(error.message, markup=False)
        return
    console.print(Syntax(constraint.lark if constraint else "", "text", word_wrap=True))


@command.command("detect")
@click.argument("template", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def detect_(template: Path, as_json: bool) -> None:
    """Say which format a chat template belongs to.

    TEMPLATE is a Jinja file, or a tokenizer_config.json with a chat_template in it.
    """
    source: Any = template.read_text(encoding="utf-8", errors="replace")
    if template.suffix == ".json":
        try:
            source = json.loads(source).get("chat_template")
        except (ValueError, AttributeError):
            raise click.UsageError(f"{template.name} is not a JSON object") from None
        if isinstance(source, list):
            source = {one["name"]: one["template"] for one in source}
    found = detect(source)
    if as_json:
        click.echo(json.dumps(found._asdict(), ensure_ascii=False))
        return
    console = Console()
    if found.family is None:
        console.print(f"unknown: {found.why}", markup=False)
        return
    console.print(f"[bold green]{found.family}[/bold green]")
    console.print(
        f"  --tool-parser {found.tool_parser or 'none'} --reasoning-parser {found.reasoning_parser or 'none'}"
    )
    console.print(f"  because of {found.why}", markup=False)


def load_plugins(files: tuple[Path, ...]) -> None:
    """Add the families of these files; a file without any is a usage error."""
    for file in files:
        try:
            load_plugin(file)
        except ValueError as error:
            raise click.UsageError(str(error)) from None


def _facts(family: Family) -> dict[str, Any]:
    first = next(iter(family.tools), None)
    return {
        "family": family.name,
        "models": family.models,
        "tools": list(family.tools),
        "reasoning": list(family.reasoning),
        "example": _example(first) if first else None,
    }


def _example(tool_parser: str) -> str | None:
    for call in (EXAMPLE_CALL, {**EXAMPLE_CALL, "id": "functions.get_weather:0"}):
        try:
            return render_calls([call], tool_parser, [EXAMPLE_TOOL])
        except ValueError:
            continue
    return None
