"""``portico models``: what can be served right now, and what can be pulled."""

from __future__ import annotations

import json

import rich_click as click
from rich.filesize import decimal
from rich.table import Column, Table

from portico import models
from portico.terminal import Terminal, echo

__all__ = ["command"]


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(as_json: bool) -> None:
    """List the models on this machine, and those that 'portico pull' knows by name."""
    here = models.installed()
    absent = [model for name, model in models.CATALOGUE.items() if name not in {model.spec for model in here}]
    if as_json:
        listing = {"installed": [_installed(model) for model in here], "available": [_available(m) for m in absent]}
        echo(json.dumps(listing, indent=2))
        return
    console = Terminal(highlight=False)
    if here:
        path = Column("path", overflow="fold")
        table = _table("Here", "name", "kind", "size", "context", "weights", path)
        for model in here:
            facts = model.facts
            context = str(facts.context_length) if facts.context_length else "?"
            weights = " ".join(filter(None, (facts.architecture, facts.quantisation)))
            table.add_row(model.spec, facts.kind, decimal(facts.size), context, weights, str(model.path))
        console.print(table)
    if absent:
        table = _table("To be pulled", "name", "kind", "download", "licence", "what")
        for entry in absent:
            table.add_row(entry.name, entry.kind, decimal(entry.download_size), entry.licence, entry.title)
        console.print(table)
    console.print("Also served: any GGUF file by its path, and hf:org/repo", style="dim")


def _table(title: str, *columns: str | Column) -> Table:
    return Table(*columns, title=title, title_justify="left", box=None)


def _installed(model: models.InstalledModel) -> dict[str, object]:
    facts = model.facts
    return {
        "name": model.spec,
        "kind": facts.kind,
        "size": facts.size,
        "path": str(model.path),
        "context_length": facts.context_length,
        "architecture": facts.architecture,
        "quantisation": facts.quantisation,
    }


def _available(model: models.CatalogueModel) -> dict[str, object]:
    return {
        "name": model.name,
        "kind": model.kind,
        "download_size": model.download_size,
        "licence": model.licence,
        "title": model.title,
        "source": model.source,
    }
