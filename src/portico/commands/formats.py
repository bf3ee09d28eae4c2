"""``portico formats``: the output formats of model families; one in detail; the one a template asks for."""

from __future__ import annotations

import json
from typing import Any, TextIO

import rich_click as click
from rich.markup import escape
from rich.table import Table

from portico.commands.options import completed
from portico.errors import BadRequestError, NotFoundError
from portico.grammar import Json, Tool
from portico.parsing import calls_grammar, detect, families, load_plugin, reasoning_names, render_calls, tool_names
from portico.parsing.calls import Calls
from portico.parsing.either import Either
from portico.parsing.family import Family
from portico.parsing.family import Reasoning as ReasoningFormat
from portico.parsing.messages import Messages
from portico.parsing.registry import program
from portico.terminal import Terminal, echo

__all__ = ["command"]

EXAMPLE = [{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]
TOOLS: list[dict[str, Any]] = [
    {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    }
]


def _sample(tool_parser: str) -> str:
    """The example call as the family's own writer writes it; "" where it makes no calls."""
    return render_calls(EXAMPLE, tool_parser, TOOLS) if program(tool_parser, None).written is not None else ""


def _rows() -> list[dict[str, Any]]:
    rows = []
    for family in sorted(families().values(), key=lambda family: family.name):
        example = _sample(next(iter(family.tools))) if family.tools else ""
        rows.append(
            {
                "family": family.name,
                "models": family.models,
                "tool_parsers": list(family.tools),
                "reasoning_parsers": list(family.reasoning),
                "example": example,
            }
        )
    return rows


@click.group("formats", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
@click.option("--parser-plugin", type=click.Path(exists=True, dir_okay=False), help="A Python file with more families.")
@click.pass_context
def command(context: click.Context, as_json: bool, parser_plugin: str | None) -> None:
    """List the output formats: which parsers there are, for which models.

    Examples:

      portico formats show hermes

      portico formats detect chat_template.jinja
    """
    if parser_plugin is not None:
        try:
            load_plugin(parser_plugin)
        except ValueError as error:
            raise BadRequestError(str(error), param="parser_plugin") from None
    if context.invoked_subcommand is not None:
        return
    rows = _rows()
    if as_json:
        echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("Family", "Tools", "Reasoning"):
        table.add_column(title, overflow="fold")
    table.add_column("Models", min_width=16, overflow="fold")
    table.add_column("Example", overflow="fold")
    for row in rows:
        table.add_row(
            f"[bold]{escape(row['family'])}[/bold]",
            escape("\n".join(row["tool_parsers"])),
            escape("\n".join(row["reasoning_parsers"])),
            escape(row["models"]),
            f"[dim]{escape(row['example'].replace(chr(10), '⏎'))}[/dim]",
        )
    console = Terminal()
    console.print(table)
    counts = f"{len(tool_names())} tool parsers, {len(reasoning_names())} reasoning parsers"
    console.print(f"\n{counts}; [bold]hf[/bold] reads a checkpoint's own response_template.")


@command.command("show")
@click.argument("name", shell_complete=completed("format"))
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def show(name: str, as_json: bool) -> None:
    """Show one format, by the name of a parser or family: its markers, a sample as a model writes it, its grammar."""
    family, tool_parser, reasoning_parser = _find(name)
    described = family.tools.get(tool_parser) if tool_parser else None
    thinks = family.reasoning.get(reasoning_parser) if reasoning_parser else None
    facts: dict[str, Any] = {"family": family.name, "models": family.models}
    facts["tool_parsers"], facts["reasoning_parsers"] = list(family.tools), list(family.reasoning)
    if isinstance(described, Calls | Either | Messages) and tool_parser:
        facts["calls_begin_with"] = list(
            described.calls.openers if isinstance(described, Messages) else described.openers
        )
        facts["sample"] = _sample(tool_parser)
        tools = [Tool(tool["name"], Json(tool["parameters"])) for tool in TOOLS]
        found = calls_grammar(tool_parser, tools)
        facts["grammar"] = _grammar(found.calls) if found is not None else ""
    if isinstance(thinks, ReasoningFormat):
        facts["thoughts"] = [list(thinks.openers), list(thinks.closers)]
    facts["markers"] = sorted(program(tool_parser, reasoning_parser).special_tokens)
    if as_json:
        echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    console = Terminal()
    for key, value in facts.items():
        title = f"[bold]{key.replace('_', ' ')}[/bold]"
        if key in ("sample", "grammar"):
            console.print(f"\n{title}")
            console.print(escape(value), highlight=False, soft_wrap=True)
        else:
            shown = "  ".join(map(repr, value)) if isinstance(value, list) else str(value)
            console.print(f"{title}: {escape(shown)}", highlight=False)


def _find(name: str) -> tuple[Family, str | None, str | None]:
    for family in families().values():
        if name == family.name or name in family.tools or name in family.reasoning:
            tool = name if name in family.tools else next(iter(family.tools), None)
            return family, tool, name if name in family.reasoning else next(iter(family.reasoning), None)
    raise NotFoundError(f"There is no format named {name!r}; 'portico formats' lists them.", param="name")


def _grammar(tree: Any) -> str:
    """The grammar tree as Lark text in llguidance's dialect, as an engine on this machine would get it."""
    from portico.constraints.lark import to_lark
    from portico.constraints.limits import Limits

    return to_lark(tree, {}, Limits()).text


@command.command("detect")
@click.argument("template", type=click.File(encoding="utf-8"))
@click.option("--special-token", "special_tokens", multiple=True, metavar="TEXT", help="A special token of the model.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def detect_(template: TextIO, special_tokens: tuple[str, ...], as_json: bool) -> None:
    """Say which format the model with this chat TEMPLATE writes."""
    found = detect(template.read(), special_tokens)
    if as_json:
        echo(json.dumps(found._asdict(), ensure_ascii=False, indent=2))
        return
    echo(f"tool parser:      {found.tool_parser or '-'}")
    echo(f"reasoning parser: {found.reasoning_parser or '-'}")
    echo(f"family:           {found.family or 'unknown'}")
    echo(f"why:              {found.why}")
