"""``portico pull``: fetch a model before it is needed."""

from __future__ import annotations

import json

import rich_click as click

from portico import models
from portico.commands.options import model_argument
from portico.commands.progress import progress_bar
from portico.terminal import Terminal, echo

__all__ = ["command"]


@click.command("pull")
@model_argument(required=True)
@click.option("--again", is_flag=True, help="Fetch it even if it is here: repairs a damaged file, finds a newer one.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(model: str, again: bool, as_json: bool) -> None:
    """Fetch MODEL so that it can be used offline.

    MODEL is a name from 'portico models', hf:org/repo/file.gguf, hf:org/repo:Q4_K_M, or hf:org/repo for the
    quantisation that fits into memory. Nothing happens if it is already here.

    Examples:

      portico pull smollm2

      portico pull hf:Qwen/Qwen3-0.6B-GGUF:Q8_0
    """
    with progress_bar(model) as progress:
        found = models.resolve(model, progress, again=again)
    if as_json:
        echo(json.dumps({"name": found.name, "kind": found.kind, "path": str(found.path)}))
    else:
        Terminal(highlight=False).print(f"[bold]{found.name}[/bold] is here: {found.path}", soft_wrap=True)
