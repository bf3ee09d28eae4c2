"""``portico pull``: fetch a model before it is needed."""

from __future__ import annotations

import json

import rich_click as click

from portico import models
from portico.commands.progress import progress_bar
from portico.terminal import Terminal, echo

__all__ = ["command"]


@click.command("pull")
@click.argument("spec", metavar="MODEL")
@click.option("--again", is_flag=True, help="Fetch it even if it is here: repairs a damaged file, finds a newer one.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(spec: str, again: bool, as_json: bool) -> None:
    """Fetch MODEL so that it can be used offline.

    MODEL is a name from 'portico models', hf:org/repo/file.gguf, hf:org/repo:Q4_K_M, or hf:org/repo for the
    quantisation that fits into memory. Nothing happens if it is already here.

    Examples:

      portico pull smollm2

      portico pull hf:Qwen/Qwen3-0.6B-GGUF:Q8_0
    """
    with progress_bar(spec) as progress:
        model = models.resolve(spec, progress, again=again)
    if as_json:
        echo(json.dumps({"name": model.name, "kind": model.kind, "path": str(model.path)}))
    else:
        Terminal(highlight=False).print(f"[bold]{model.name}[/bold] is here: {model.path}", soft_wrap=True)
